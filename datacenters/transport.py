"""How this project's own HTTP requests leave: straight to the address, and what their failures prove."""

from __future__ import annotations

from pyqwest import ConnectTimeout, HTTPTransport, Proxy, ReadError, RemoteProtocolError, WriteError

CONNECT_S = 0.5
IDLE_CONNECTIONS_MAX = 64
IDLE_CONNECTION_S = 30.0
# What a request may fail with; TimeoutError is an OSError.
FAILURES = (OSError, ReadError, WriteError, RemoteProtocolError)


def direct_transport(*, connect_s: float = CONNECT_S) -> HTTPTransport:
    """A transport that touches neither bodies nor redirects and uses no proxy, whatever the environment says."""
    return HTTPTransport(
        follow_redirects=False,
        enable_gzip=False,
        enable_brotli=False,
        enable_zstd=False,
        enable_otel=False,
        connect_timeout=connect_s,
        pool_idle_timeout=IDLE_CONNECTION_S,
        pool_max_idle_per_host=IDLE_CONNECTIONS_MAX,
        tls_include_system_certs=True,
        # An empty list would let the environment's HTTP_PROXY through; a proxy that is for no host keeps it out.
        proxy=Proxy("http://127.0.0.1:9", no_proxy="*,0.0.0.0/0,::/0"),
    )


def never_connected(failure: BaseException) -> bool:
    """Whether the failure shows that no connection was made, so that nothing can have been sent."""
    # ConnectTimeout is a TimeoutError as well; any other ConnectionError of Python's own tells of a connection that
    # existed.
    return type(failure) in {ConnectionError, ConnectTimeout}
