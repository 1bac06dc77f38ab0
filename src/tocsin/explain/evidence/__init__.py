"""Evidence: all of a server's logs, found, typed by content, read once, their clocks repaired."""
