"""Where a provider's server is, and which key may go there.

A spec names a server by `base_url`; only the user's environment holds keys. So a key is
bound to the addresses that the environment or the vendor name, and a spec can't send it
anywhere else. Pure: the environment comes in as an argument.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

import msgspec

from ..errors import ConfigError

ALLOW_HTTP = "ORCH_ALLOW_HTTP"

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,252})")
_PATH = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@%/-]*")
_PORT_OF_SCHEME = {"http": 80, "https": 443}


class Secret:
    """A key that shows itself to nobody who does not ask for it by name."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def __repr__(self) -> str:
        return "Secret(…)"

    def reveal(self) -> str:
        """Return the key."""
        return self._value


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a provider's servers before any setting.

    Attributes:
        provider: its name, for messages.
        variable: the environment variable that names a server.
        default: the base URL where nothing else is said.
        key_variable: the environment variable that holds the key, if there is one.
        default_port: of an address without a scheme (`host` or `host:port`); such addresses
            are taken for `http`. None where an address must be a URL.
        default_path: of an address without a path.
        drop_suffix: an ending of the path that is part of the endpoint's own.
    """

    provider: str
    variable: str
    default: str
    key_variable: str | None = None
    default_port: int | None = None
    default_path: str = ""
    drop_suffix: str = ""


class Address(msgspec.Struct, frozen=True):
    """A server: base URL without a trailing slash, its origin, and whether it is this machine."""

    base_url: str
    origin: str
    loopback: bool


class Located(msgspec.Struct, frozen=True):
    """The address to call, the key that goes with it, and whether the vendor itself answers.

    `withheld` says that there is a key, which does not go to an address of this machine that only
    a spec named.
    """

    address: Address
    key: Secret | None
    vendor: bool
    withheld: bool = False


def locate(site: Site, base_url: str | None, environ: Mapping[str, str]) -> Located:
    """Return where to call: `base_url` (of a spec), else the variable, else the default.

    Raises:
        ConfigError: for a malformed address, plain http to another machine, or a key that
            would leave for an address that neither the environment nor the vendor named.
    """
    default = parse(site, site.default, "the default")
    named = environ.get(site.variable, "").strip()
    setting = parse(site, named, site.variable) if named else default
    address = parse(site, base_url, "base_url") if base_url is not None else setting
    if not address.loopback and address.base_url.startswith("http://"):
        _refuse_plain_http(site, address, environ)
    key = _key(site, environ)
    trusted = {default.origin, setting.origin}
    # Who listens on this machine is not known: it gets the prompt and no key.
    withheld = key is not None and address.loopback and address.origin not in trusted
    if withheld:
        key = None
    if key is not None and address.origin not in trusted:
        raise ConfigError(
            f"the spec's base_url would send {site.key_variable} to {address.origin}",
            place=f"provider {site.provider}, base_url {address.base_url}",
            hint=f"a key goes only where you say: set {site.variable}={address.base_url} in "
            f"the environment, or unset {site.key_variable}",
        )
    vendor = address.origin == default.origin and not default.loopback
    return Located(address, key, vendor, withheld)


def parse(site: Site, text: str, source: str) -> Address:
    """Return the address that `text` names.

    Raises:
        ConfigError: naming `source` (never quoting the text: it may hold a password).
    """
    address = text.strip()
    if "://" not in address and site.default_port is not None:
        address = _with_scheme(address, site.default_port)
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        raise _malformed(site, source, "it is no URL") from None
    if parts.username is not None or parts.password is not None:
        raise _malformed(site, source, "it holds a user name or a password")
    if parts.scheme not in _PORT_OF_SCHEME:
        raise _malformed(site, source, "it does not begin with http:// or https://")
    if parts.query or parts.fragment or "?" in address or "#" in address:
        raise _malformed(site, source, "it holds a query or a fragment")
    if not _PATH.fullmatch(parts.path) or ".." in parts.path.split("/"):
        raise _malformed(site, source, "its path holds characters that need escaping")
    host, loopback = _host(site, parts.hostname or "", source)
    port = None if port == _PORT_OF_SCHEME[parts.scheme] else port
    origin = f"{parts.scheme}://{host}" + (f":{port}" if port is not None else "")
    path = parts.path.rstrip("/").removesuffix(site.drop_suffix) or site.default_path
    return Address(origin + path, origin, loopback)


def _with_scheme(text: str, port: int) -> str:
    """Turn `host`, `host:port`, `:port` or a bare IPv6 address into a URL."""
    host, slash, path = text.partition("/")
    if host.count(":") > 1 and not host.startswith("["):
        host = f"[{host}]"
    if host.startswith(":"):
        host = "127.0.0.1" + host
    if not re.search(r":\d*$", host.rpartition("]")[2]):
        host += f":{port}"
    return f"http://{host}{slash}{path}"


def _host(site: Site, host: str, source: str) -> tuple[str, bool]:
    """Return the host as it stands in a URL, and whether it is this machine."""
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        if not _HOST.fullmatch(host):
            raise _malformed(site, source, "its host is no name and no address") from None
        return host.lower(), host == "localhost" or host.endswith(".localhost")
    if ip.is_unspecified:
        # What a server listens on ("everywhere"); a client means this machine by it.
        ip = ipaddress.ip_address("127.0.0.1" if ip.version == 4 else "::1")
    return (f"[{ip}]" if ip.version == 6 else str(ip)), ip.is_loopback


def _key(site: Site, environ: Mapping[str, str]) -> Secret | None:
    if site.key_variable is None:
        return None
    value = environ.get(site.key_variable, "").strip()
    if not value:
        return None
    if not (value.isascii() and value.isprintable() and " " not in value):
        raise ConfigError(
            f"{site.key_variable} holds characters that no key has",
            place=f"provider {site.provider}",
            hint=f"set {site.key_variable} again, without line breaks or quotes",
        )
    return Secret(value)


def _refuse_plain_http(site: Site, address: Address, environ: Mapping[str, str]) -> None:
    if environ.get(ALLOW_HTTP) == "1":
        return
    raise ConfigError(
        f"{site.provider} at {address.origin} would be called over plain http",
        place=f"provider {site.provider}, {address.base_url}",
        hint=f"use https://, or set {ALLOW_HTTP}=1 if you trust the network in between",
    )


def _malformed(site: Site, source: str, cause: str) -> ConfigError:
    example = "http://127.0.0.1:11434" if site.default_port else site.default
    return ConfigError(
        f"the address of {site.provider} can't be used: {cause}",
        place=f"provider {site.provider}, {source}",
        hint=f"write it like {example}",
    )
