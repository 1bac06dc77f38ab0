"""Filters at work on lines: tags, regexes, prefilter, connections. Pure."""
