# A shelf: rows one after the other, that are found by their key. Included by _cython.pyx.
#
# A hash table with open addressing: a slot holds a row's number + 1, 0 when it was never used, -1 when its row
# was taken off. The hash is keyed by random bytes: whoever writes rows can't choose keys that collide.

cdef uint64_t _seed[2]
_random = os.urandom(16)
memcpy(_seed, PyBytes_AS_STRING(_random), 16)


cdef struct shelf_t:
    cells_t cells  # rows of `width` cells
    Py_ssize_t width
    Py_ssize_t of_key
    const Py_ssize_t* key  # `of_key` columns
    Py_ssize_t count  # rows, also those that were taken off
    uint64_t* hashes  # of each row
    Py_ssize_t room  # of hashes
    int64_t* slots
    size_t mask  # number of slots - 1, which is a power of two - 1; 0: there are none
    size_t used  # slots that aren't 0


cdef inline uint64_t turned(uint64_t word, int bits) noexcept nogil:
    return (word << bits) | (word >> (64 - bits))


cdef inline void stir(uint64_t* v) noexcept nogil:
    """A round of SipHash (Aumasson, Bernstein: "SipHash: a fast short-input PRF", 2012)."""
    v[0] += v[1]
    v[1] = turned(v[1], 13) ^ v[0]
    v[0] = turned(v[0], 32)
    v[2] += v[3]
    v[3] = turned(v[3], 16) ^ v[2]
    v[0] += v[3]
    v[3] = turned(v[3], 21) ^ v[0]
    v[2] += v[1]
    v[1] = turned(v[1], 17) ^ v[2]
    v[2] = turned(v[2], 32)


cdef inline void stir_in(uint64_t* v, uint64_t word) noexcept nogil:
    v[3] ^= word
    stir(v)
    v[0] ^= word


cdef uint64_t hash_of(const cell_t* key, Py_ssize_t of_key) noexcept nogil:
    """Of the cells of a key: of each its kind or length, then its bytes, eight at a time."""
    cdef uint64_t v[4]
    cdef uint64_t word = 0
    cdef Py_ssize_t i, left
    cdef octets at
    v[0] = _seed[0] ^ <uint64_t>0x736f6d6570736575
    v[1] = _seed[1] ^ <uint64_t>0x646f72616e646f6d
    v[2] = _seed[0] ^ <uint64_t>0x6c7967656e657261
    v[3] = _seed[1] ^ <uint64_t>0x7465646279746573
    for i in range(of_key):
        left, at = key[i].size, key[i].at
        stir_in(v, <uint64_t>left)
        while left >= 8:
            memcpy(&word, at, 8)
            stir_in(v, word)
            at += 8
            left -= 8
        if left > 0:
            word = 0
            memcpy(&word, at, <size_t>left)
            stir_in(v, word)
    v[2] ^= 0xff
    for i in range(3):
        stir(v)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


cdef inline bint same_key(const shelf_t* shelf, Py_ssize_t row, const cell_t* key) noexcept nogil:
    cdef const cell_t* cells = shelf.cells.at + row * shelf.width
    cdef Py_ssize_t k
    for k in range(shelf.of_key):
        if not same_cell(&cells[shelf.key[k]], &key[k]):
            return False
    return True


cdef size_t shelf_slot(const shelf_t* shelf, uint64_t hashed, const cell_t* key) noexcept nogil:
    """The slot of the row under this key. To be called only where there are slots; one of them is always 0. The
    slot holds 0 when there is no such row."""
    cdef size_t slot = <size_t>hashed & shelf.mask
    cdef int64_t held
    while True:
        held = shelf.slots[slot]
        if held == 0:
            return slot
        if held > 0 and shelf.hashes[held - 1] == hashed and same_key(shelf, held - 1, key):
            return slot
        slot = (slot + 1) & shelf.mask


cdef Py_ssize_t shelf_find(const shelf_t* shelf, uint64_t hashed, const cell_t* key) noexcept nogil:
    """The number of the row under this key, or -1."""
    if shelf.mask == 0:
        return -1
    return <Py_ssize_t>shelf.slots[shelf_slot(shelf, hashed, key)] - 1


cdef int shelf_rehash(shelf_t* shelf) noexcept nogil:
    """Slots anew, less than half of them for what stands there."""
    cdef size_t standing = 0, size = 16, slot, old
    cdef int64_t* slots
    if shelf.mask:
        for old in range(shelf.mask + 1):
            standing += shelf.slots[old] > 0
    while size // 2 <= standing:
        if size > <size_t>MOST // 16:
            return -1
        size *= 2
    slots = <int64_t*>calloc(size, sizeof(int64_t))
    if slots == NULL:
        return -1
    if shelf.mask:
        for old in range(shelf.mask + 1):
            if shelf.slots[old] > 0:
                slot = <size_t>shelf.hashes[shelf.slots[old] - 1] & (size - 1)
                while slots[slot] != 0:
                    slot = (slot + 1) & (size - 1)
                slots[slot] = shelf.slots[old]
    free(shelf.slots)
    shelf.slots, shelf.mask, shelf.used = slots, size - 1, standing
    return 0


cdef int shelf_room(shelf_t* shelf) noexcept nogil:
    """Room for one more row; -1: there is no memory, and nothing has changed."""
    cdef Py_ssize_t room
    cdef void* grown
    if cells_room(&shelf.cells, shelf.width) < 0:
        return -1
    if shelf.count == shelf.room:
        room = 2 * shelf.room + 64
        if room > MOST // 8:
            return -1
        grown = realloc(shelf.hashes, <size_t>room * sizeof(uint64_t))
        if grown == NULL:
            return -1
        shelf.hashes, shelf.room = <uint64_t*>grown, room
    if shelf.mask == 0 or (shelf.used + 1) * 3 > (shelf.mask + 1) * 2:
        return shelf_rehash(shelf)
    return 0


cdef Py_ssize_t shelf_add(shelf_t* shelf, uint64_t hashed, const cell_t* key, const cell_t* row) noexcept nogil:
    """Put a row there whose key isn't there. Call `shelf_room` before. Its number."""
    cdef size_t slot = shelf_slot(shelf, hashed, key)
    cdef Py_ssize_t number = shelf.count
    copy_cells(shelf.cells.at + number * shelf.width, row, shelf.width)
    shelf.cells.used += shelf.width
    shelf.hashes[number] = hashed
    shelf.slots[slot] = number + 1
    shelf.used += 1
    shelf.count += 1
    return number


cdef void shelf_take_off(shelf_t* shelf, uint64_t hashed, const cell_t* key) noexcept nogil:
    """The row under this key, which is there, isn't found any more."""
    shelf.slots[shelf_slot(shelf, hashed, key)] = -1


cdef void shelf_clear(shelf_t* shelf) noexcept nogil:
    """Nothing stands there, and no memory is held."""
    free(shelf.cells.at)
    free(shelf.hashes)
    free(shelf.slots)
    memset(&shelf.cells, 0, sizeof(cells_t))
    shelf.hashes, shelf.slots = NULL, NULL
    shelf.count = shelf.room = 0
    shelf.mask = shelf.used = 0
