"""The content checksum: order-independent, multiset-aware, computed on each side by separate code (promise 7).

Definition, in arithmetic modulo 2^64:

* every value has a *word*: an integer's two's complement, a decimal's unscaled value, a time's epoch microseconds, a
  date's epoch days, a double's bits, the XXH64 of a string's, UUID's or fixed value's bytes; null is one constant; an
  array is the sum of its elements' words, each mixed with its position, plus its length; a map is the sum of its mixed
  entries plus its size, whatever their order;
* a column contributes ``mix(word xor salt)``, where the salt is the XXH64 of the column's name;
* a row is ``mix(sum of its columns)``, so that values swapped between two rows are noticed;
* the checksum is the sum over all rows, so that two equal rows count twice.

``mix`` is ClickHouse's ``intHash64``, the finaliser of MurmurHash3 after an exclusive or with a constant
(``src/Common/HashTable/Hash.h``). :mod:`.warm` writes it as ClickHouse SQL, :mod:`.cold` computes it from Arrow data
with NumPy, :mod:`.spark` writes it as Spark SQL.
"""

from __future__ import annotations

import xxhash

MASK = 2**64 - 1
MIX_XOR = 0x4CF2D2BAAE6DA887
MIX_MULTIPLY_1 = 0xFF51AFD7ED558CCD
MIX_MULTIPLY_2 = 0xC4CEB9FE1A85EC53
NULL_WORD = 0x9E3779B97F4A7C15
"""Word of a null value (the golden ratio's bits, as good as any other)."""
HIGH_MULTIPLIER = 0xD6E8FEB86659FD93
"""Factor of a decimal's upper 64 bits if they are more than the sign of the lower ones."""
POSITION_MULTIPLIER = 0xA24BAED4963EE407
"""Factor of an array element's position, counted from 1."""
NAN_WORD = 0x7FF8000000000000


def salt(column: str) -> int:
    """Salt of a column: the XXH64 (seed 0) of its name."""
    return xxhash.xxh64_intdigest(column.encode())


def mix(value: int) -> int:
    """Scramble 64 bits, as ClickHouse's ``intHash64`` does. The reference for the tests of every implementation."""
    value = (value ^ MIX_XOR) & MASK
    value ^= value >> 33
    value = value * MIX_MULTIPLY_1 & MASK
    value ^= value >> 33
    value = value * MIX_MULTIPLY_2 & MASK
    return value ^ value >> 33
