"""The only room with a privilege: puts Ops into the kernel's firewall and says what really happened.

`server` is the enforcer's process, `client` the watcher's end of the socket pair, `protocol` what travels between
them. The process needs CAP_NET_ADMIN in its network namespace and nothing else; it reads no log and no rule, and
validates again all that it is told. Importing this package loads nothing: the watcher imports `client`, which knows
neither libnftables nor netlink.

The enforcer also says to the web server which requests to turn away (`denying`, `webfiles`, `webserver`), and needs no
privilege for that: Apache reads its files by itself. nginx does not, so `reloader` is a process of its own, root's.
"""
