"""Campaigns against the event log and the file store: crashes, kills, power cuts, crowds.

`python -m campaigns --help` lists them; README.md says what each one does and what it printed.
The tests run a short form of each.
"""
