"""What a training worker finds out about its machine."""

import socket

from faceae.cluster.worker import _interface


def test_the_interface_of_an_address_is_found():
    assert _interface("127.0.0.1") in {name for _, name in socket.if_nameindex()}
    assert _interface("203.0.113.9") is None  # reserved for documentation
