"""Snapshots that somebody took by hand or by cron: ps, top, free, df, vmstat, ss and their like."""
