"""The ledger: what was found, decided and really done, and where to go on after a restart. SQLite, one writer."""
