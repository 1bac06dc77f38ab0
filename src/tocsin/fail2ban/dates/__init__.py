"""Dates in lines, as fail2ban's datepatterns mean them."""
