"""Where processes listen on the network."""

import psutil


def listening(process=None):
    """The addresses on which a process, by default this one, accepts connections."""
    process = process or psutil.Process()
    seen = getattr(process, "net_connections", None) or process.connections  # psutil before 6
    return {each.laddr for each in seen("inet") if each.status == psutil.CONN_LISTEN}
