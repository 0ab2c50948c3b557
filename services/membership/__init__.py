"""Membership: organisations, applications to join them, members, and rosters of people."""
