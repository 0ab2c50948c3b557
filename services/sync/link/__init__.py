"""The links: from the logs of this node's services into frames, and up to the parent.

    Framer    reads one channel of one service's log, makes frames            (one a channel)
    Uplink    pushes frames to the parent, over NATS or else gRPC; its answer is the receipt
    Children  answers the pushes of children that come over NATS
    Watcher   asks the services what they can prove, and remembers what is missed

Each reads its cursor, does one transaction, and begins again at its cursor after any failure.
"""

import grpc

from kit.db import PASSING

PEER_FAILURES = (*PASSING, grpc.aio.AioRpcError)
"""What passes by itself between the parts of a node, and between nodes."""
