"""The data card of instruction shards: what is in them, as numbers from their ledgers and as pictures.

table.py      all ledgers as one table
numbers.py    what is counted in it
examples.py   what is shown of the shards
page.py       `card.html` and `card.json`
"""

from sketchgen.data_card.numbers import PartNumbers, shortfall
from sketchgen.data_card.page import DATA_CARD, NUMBERS, CardConfig, CardPart, Wording, write_data_card

__all__ = [
    "DATA_CARD",
    "NUMBERS",
    "CardConfig",
    "CardPart",
    "PartNumbers",
    "Wording",
    "shortfall",
    "write_data_card",
]
