"""python -m bench.standin --config FILE"""

import sys
from pathlib import Path

from kit.telemetry import setup_logging
from node import cli, config, supervisor

if __name__ == "__main__":
    setup_logging("node")
    loaded = config.load(Path(sys.argv[2]))
    cli.run(supervisor.up(loaded, package="bench.standin"))
