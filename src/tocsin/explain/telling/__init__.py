"""How a report is told: a page of a terminal, a file for a browser, JSON; in English and French."""
