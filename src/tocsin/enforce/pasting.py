"""What people can paste into a web server's configuration to have a class of requests turned away. Pure."""

from __future__ import annotations

import re

from tocsin.enforce.webserver import NGINX_REQUEST, Server, check, nginx_class, site_of
from tocsin.model import Signature

_PLAIN = re.compile(r"[ !#$%&'()*+,./0-9:;<=>?@A-Z\[\]^_`a-z|~-]*").fullmatch
"""What may stand in a web server's configuration between quotes without meaning anything there."""


def denial_rule(server: Server, signature: Signature) -> str:
    """The lines for a configuration that answer 429 to a class, whoever asks; empty where a text of it could mean
    something else there.
    """
    texts = (signature.path, signature.query, signature.user_agent, signature.vhost)
    try:
        check(signature, (), 1.0, 0.0)
    except ValueError:
        return ""
    if not _PLAIN("".join(text or "" for text in texts)):
        return ""
    return _apache_rule(signature) if server == "apache" else _nginx_rule(signature)


def query_pattern(part: str) -> str:
    """An expression for the queries that a signature's `query` is in; empty where that is."""
    start = "" if part.startswith("=") or not part else "(?:^|&)"
    end = "" if part.endswith("=") or not part else "(?:&|$)"
    return f"{start}{literal(part)}{end}"


def literal(text: str) -> str:
    """An expression for a text and nothing else; outside of brackets, where a hyphen needs no escape."""
    return re.escape(text).replace(r"\-", "-")


def _apache_rule(signature: Signature) -> str:
    lines = ["# inside the site's <VirtualHost>", "RewriteEngine On"]
    if signature.method:
        lines.append(f"RewriteCond %{{REQUEST_METHOD}} ={signature.method}")
    if signature.protocol:
        lines.append(f"RewriteCond %{{SERVER_PROTOCOL}} ={signature.protocol}")
    if signature.vhost:
        name = re.escape(site_of(signature.vhost))
        lines.append(rf'RewriteCond %{{HTTP_HOST}} "^(www\.)?{name}(:\d+)?$" [NC]')
    if signature.query is not None:
        lines.append(f'RewriteCond %{{QUERY_STRING}} "{query_pattern(signature.query) or "^$"}"')
    if signature.user_agent is not None:
        lines.append(f'RewriteCond %{{HTTP_USER_AGENT}} "{re.escape(signature.user_agent) or "^-?$"}"')
    path = "[^/]*".join(re.escape(piece) for piece in (signature.path or "").split("*"))
    return "\n".join((*lines, f"RewriteRule ^{f'{path}$' if path else ''} - [R=429,L]"))


def _nginx_rule(signature: Signature) -> str:
    path, agent, method = signature.path, signature.user_agent, signature.method
    further = (signature.query, signature.vhost, signature.protocol)
    if path is None or "*" in path or agent == "" or any(each is not None for each in further) or (agent and method):
        found = nginx_class(signature, "")
        source = NGINX_REQUEST.partition(r"\t")[2]
        lines = (f'map "{source}" $denied {{\n    default "";\n    "~{found}" 1;\n}}', "# inside the server block")
        return "\n".join(("# inside the http block", *lines, "if ($denied) { return 429; }"))
    test = f'if ($http_user_agent ~ "{re.escape(agent)}") ' if agent else ""
    test = test or (f"if ($request_method = {method}) " if method else "")
    denied = f"{test}{{ return 429; }}" if test else "return 429;"
    return f"location = {path} {{\n    {denied}\n}}"
