"""A node with stand-in services: python -m tests.service.node.standin CONFIG [--processes]"""

import sys
from pathlib import Path

from kit.errors import Refusal
from kit.telemetry import setup_logging
from node import cli, config, supervisor

if __name__ == "__main__":
    setup_logging("node")
    try:
        cli.run(
            supervisor.up(
                config.load(Path(sys.argv[1])),
                separate="--processes" in sys.argv,
                package="tests.service.node.standin",
            )
        )
    except Refusal as refusal:
        sys.exit(str(refusal))
