"""An /etc/fail2ban as it is written: files, merge order, interpolation, options."""
