"""Fault schedules over real processes: what is acknowledged is kept here, outside the victims.

schedules   what is brought and what strikes when, all from a seed
victims     the processes of a network, and how they are struck
load        officers who import rosters and decide on people, readers, and the ledger of answers
checker     what is lost, unexpected, duplicated, reordered or different, from a kept history alone
runs        one network, one run after the other on it
"""
