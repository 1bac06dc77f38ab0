"""Reads an /etc/fail2ban and turns its jails into rules. fail2ban's own words stay inside this room."""
