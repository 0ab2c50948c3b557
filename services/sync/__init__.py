"""Sync: carries the logs of all services up the tree of nodes, and shows what is proved."""
