"""Fault schedules over real processes: what is acknowledged is kept here, outside the victims.

schedules   what is brought and what strikes when, all from a seed
victims     the processes of a network, and how they are struck
load        officers who import rosters and approve people, and the ledger of what was answered
checker     what is lost, unexpected, twice or different, from nothing but names and versions
runs        one network, one run after the other on it
"""
