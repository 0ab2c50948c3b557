"""How fast it is, each path beside a probe of the engine in the same run: see README.md."""
