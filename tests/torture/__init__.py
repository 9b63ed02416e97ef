"""Kills, damage, hostile files, slips and spoilt inputs at random: does every promise of docs/reliability.md hold?"""
