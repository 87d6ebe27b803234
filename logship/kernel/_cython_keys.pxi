# Sets of keys, to be compared with one another; see _python_keys.py. Included by _cython.pyx.
#
# Open addressing; a slot holds a key's hash, 0 where there is none. Two keys of one hash are taken for one: that two
# sets meet may be said where they don't, once in 2⁶⁴ pairs.

cdef class KeySet:
    """The keys that stand in some columns of some rows: ``parts``, pairs of `Rows` and column numbers."""

    cdef uint64_t* slots
    cdef size_t mask
    cdef Py_ssize_t count  # of rows: no fewer than there are keys

    def __cinit__(self, parts=()):
        cdef Py_ssize_t wide = 0
        cdef Py_ssize_t* picked = NULL
        cdef cell_t* key = NULL
        cdef Rows rows
        cdef list given = [(<Rows?>part, list(columns)) for part, columns in parts]
        self.slots = NULL
        self.mask = 0
        self.count = 0
        for rows, _ in given:
            if self.count > MOST // 32 - rows.count:
                raise MemoryError
            self.count += rows.count
        self.mask = 1
        while self.mask < 2 * <size_t>self.count:
            self.mask *= 2
        self.slots = <uint64_t*>calloc(self.mask, sizeof(uint64_t))
        self.mask -= 1
        if self.slots == NULL:
            raise MemoryError
        for rows, columns in given:
            picked = places(columns, rows.width, &wide)
            key = <cell_t*>malloc((<size_t>wide + 1) * sizeof(cell_t))
            if key == NULL:
                free(picked)
                raise MemoryError
            with nogil:
                add_keys(self.slots, self.mask, rows.first, rows.width, rows.count, picked, wide, key)
            free(key)
            free(picked)

    def __dealloc__(self):
        free(self.slots)

    def meets(self, KeySet other not None):
        """Whether some key is in both."""
        cdef KeySet fewer = self if self.mask <= other.mask else other
        cdef KeySet more = other if self.mask <= other.mask else self
        cdef bint found = False
        cdef size_t i
        if fewer.count == 0:
            return False
        with nogil:
            for i in range(fewer.mask + 1):
                if fewer.slots[i] != 0 and more.slots[slot_of(more.slots, more.mask, fewer.slots[i])] != 0:
                    found = True
                    break
        return found


cdef inline size_t slot_of(const uint64_t* slots, size_t mask, uint64_t hashed) noexcept nogil:
    """Where the hash stands, or is to stand."""
    cdef size_t at = <size_t>hashed & mask
    while slots[at] != 0 and slots[at] != hashed:
        at = (at + 1) & mask
    return at


cdef void add_keys(
    uint64_t* slots, size_t mask, const cell_t* cells, Py_ssize_t stride, Py_ssize_t rows, const Py_ssize_t* columns,
    Py_ssize_t count, cell_t* key
) noexcept nogil:
    """``key``: room for one."""
    cdef Py_ssize_t i, k
    cdef uint64_t hashed
    for i in range(rows):
        for k in range(count):
            key[k] = cells[i * stride + columns[k]]
        hashed = hash_of(key, count)
        if hashed == 0:
            hashed = 1
        slots[slot_of(slots, mask, hashed)] = hashed
