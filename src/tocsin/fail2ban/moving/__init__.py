"""Taking over from a fail2ban, and answering in its words."""
