"""Kills, damage, hostile files and mutated configs, drawn at random: does every promise of docs/reliability.md hold?"""
