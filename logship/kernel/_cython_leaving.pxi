# Whole columns in the forms in which they leave the process. Included by _cython.pyx.
#
# Each form is made in two passes: one that measures and refuses, with nothing written, and one that fills
# exactly what was measured. ``cells`` is the first row's cell of a column, rows are ``stride`` cells apart.

cdef enum:
    _MOST_ARROW = 0x7fffffff  # bytes of one Arrow column


cdef object refuse_unchanged():
    raise ValueError("a cell that the log does not carry can't be written")


cdef enum:
    _ARRAY_HEAD = 20  # bytes: dimensions, whether there are NULLs, the elements' type, how many, the lower bound

cdef bytes _empty_array = b"\0\0\0\0\0\0\0\0\0\0\0\x19"


cdef inline void put_array_head(unsigned char* to, int has_null, Py_ssize_t elements) noexcept nogil:
    """Of a text[] that isn't empty."""
    put_u32(to, 1)
    put_u32(to + 4, <uint32_t>has_null)
    put_u32(to + 8, 25)
    put_u32(to + 12, <uint32_t>elements)
    put_u32(to + 16, 1)


cdef bytes array_of(
    const cell_t* cells, Py_ssize_t stride, Py_ssize_t rows, const Py_ssize_t* columns, Py_ssize_t count
):
    """text[] of the columns end to end; ``columns`` NULL: of the one that ``cells`` is."""
    cdef Py_ssize_t n = 1 if columns == NULL else count
    cdef Py_ssize_t elements, size = _ARRAY_HEAD, i, k
    cdef int has_null = 0, status = 0
    cdef const cell_t* cell
    cdef bytes made
    cdef unsigned char* to
    if n > 0 and rows > 0x7fffffff // n:
        raise ValueError("an array of more than 2³¹ elements")
    elements = n * rows
    if elements == 0:
        return _empty_array
    with nogil:
        for k in range(n):
            for i in range(rows):
                cell = cells + i * stride + (0 if columns == NULL else columns[k])
                if cell.size == UNCHANGED_CELL:
                    status = -1
                    break
                size += 4
                if cell.size == NULL_CELL:
                    has_null = 1
                elif cell.size > 0x7fffffff or size > MOST:
                    status = -2
                    break
                else:
                    size += cell.size
            if status:
                break
    if status == -1:
        refuse_unchanged()
    if status == -2:
        raise ValueError("a text of more than 2 GB")
    made = PyBytes_FromStringAndSize(NULL, size)
    to = <unsigned char*>PyBytes_AS_STRING(made)
    with nogil:
        put_array_head(to, has_null, elements)
        to += _ARRAY_HEAD
        for k in range(n):
            for i in range(rows):
                cell = cells + i * stride + (0 if columns == NULL else columns[k])
                if cell.size < 0:
                    put_u32(to, 0xffffffff)
                    to += 4
                else:
                    put_u32(to, <uint32_t>cell.size)
                    memcpy(to + 4, cell.at, <size_t>cell.size)
                    to += 4 + cell.size
    return made


# What stands behind the backslash for a byte of COPY's text that can't stand for itself; 0: it can.
cdef unsigned char _escapes[256]
memset(_escapes, 0, sizeof(_escapes))
for _byte, _letter in zip(b"\b\t\n\v\f\r\\", b"btnvfr\\"):
    _escapes[<unsigned char>_byte] = _letter


cdef bytes lines_of(
    const cell_t* cells, Py_ssize_t stride, Py_ssize_t rows, const Py_ssize_t* columns, Py_ssize_t count
):
    cdef Py_ssize_t size = 0, i, k, n
    cdef int status = 0
    cdef const cell_t* cell
    cdef bytes made
    cdef unsigned char* to
    cdef unsigned char letter
    with nogil:
        for i in range(rows):
            for k in range(count):
                cell = cells + i * stride + columns[k]
                if cell.size == UNCHANGED_CELL:
                    status = -1
                elif cell.size == NULL_CELL:
                    size += 2
                else:
                    size += cell.size
                    for n in range(cell.size):
                        if _escapes[cell.at[n]]:
                            size += 1
            size += count if count > 0 else 1
            if status or size > MOST:
                break
    if status:
        refuse_unchanged()
    if size > MOST:
        raise MemoryError
    made = PyBytes_FromStringAndSize(NULL, size)
    to = <unsigned char*>PyBytes_AS_STRING(made)
    with nogil:
        for i in range(rows):
            for k in range(count):
                if k > 0:
                    to[0] = c'\t'
                    to += 1
                cell = cells + i * stride + columns[k]
                if cell.size < 0:
                    to[0] = c'\\'
                    to[1] = c'N'
                    to += 2
                    continue
                for n in range(cell.size):
                    letter = _escapes[cell.at[n]]
                    if letter:
                        to[0] = c'\\'
                        to[1] = letter
                        to += 2
                    else:
                        to[0] = cell.at[n]
                        to += 1
            to[0] = c'\n'
            to += 1
    return made


cdef object validity_of(const cell_t* cells, Py_ssize_t stride, Py_ssize_t rows):
    """A bitmap of what is not NULL; None when nothing is. Refuses what is UNCHANGED."""
    cdef Py_ssize_t i, nulls = 0, unchanged = 0
    cdef bytes made
    cdef unsigned char* to
    with nogil:
        for i in range(rows):
            nulls += cells[i * stride].size == NULL_CELL
            unchanged += cells[i * stride].size == UNCHANGED_CELL
    if unchanged:
        refuse_unchanged()
    if nulls == 0:
        return None
    made = PyBytes_FromStringAndSize(NULL, (rows + 7) // 8)
    to = <unsigned char*>PyBytes_AS_STRING(made)
    memset(to, 0, <size_t>(rows + 7) // 8)
    with nogil:
        for i in range(rows):
            if cells[i * stride].size >= 0:
                to[i >> 3] |= <unsigned char>(1 << (i & 7))
    return made


cdef tuple texts_of(const cell_t* cells, Py_ssize_t stride, Py_ssize_t rows):
    cdef Py_ssize_t i, size = 0
    cdef const cell_t* cell
    cdef bytes offsets, data
    cdef int32_t* offset
    cdef unsigned char* to
    with nogil:
        for i in range(rows):
            cell = cells + i * stride
            if cell.size > 0:
                if cell.size > _MOST_ARROW - size:
                    size = -1
                    break
                size += cell.size
    if size < 0:
        raise ValueError("a column of more than 2 GB")
    offsets = PyBytes_FromStringAndSize(NULL, 4 * (rows + 1))
    data = PyBytes_FromStringAndSize(NULL, size)
    offset = <int32_t*>PyBytes_AS_STRING(offsets)
    to = <unsigned char*>PyBytes_AS_STRING(data)
    with nogil:
        size = 0
        offset[0] = 0
        for i in range(rows):
            cell = cells + i * stride
            if cell.size > 0:
                memcpy(to + size, cell.at, <size_t>cell.size)
                size += cell.size
            offset[i + 1] = <int32_t>size
    return offsets, data


cdef int integer(const cell_t* cell, int bits, int64_t* value) noexcept nogil:
    """The number that the text is, as PostgreSQL prints it; -1: none of so many bits."""
    cdef bint negative = cell.size > 0 and cell.at[0] == c'-'
    cdef Py_ssize_t i = 1 if negative else 0
    cdef Py_ssize_t digits = cell.size - i
    cdef uint64_t most = (<uint64_t>1 << (bits - 1)) - (0 if negative else 1), found = 0
    if digits < 1 or digits > 19:
        return -1
    if cell.at[i] == c'0' and (digits > 1 or negative):
        return -1
    while i < cell.size:
        if cell.at[i] < c'0' or cell.at[i] > c'9':
            return -1
        found = found * 10 + (cell.at[i] - c'0')  # of 19 digits: less than 2⁶⁴
        i += 1
    if found > most:
        return -1
    # The most negative number has no positive one: its bits are made without leaving the unsigned.
    value[0] = <int64_t>(0 - found) if negative else <int64_t>found
    return 0


cdef bytes integers_of(const cell_t* cells, Py_ssize_t stride, Py_ssize_t rows, int bits):
    cdef Py_ssize_t i, wide = bits // 8
    cdef bytes made
    cdef char* to
    cdef int64_t value
    cdef int32_t value32
    cdef int16_t value16
    cdef bint wrong = False
    if rows > MOST // 8:
        raise MemoryError
    made = PyBytes_FromStringAndSize(NULL, rows * wide)
    to = PyBytes_AS_STRING(made)
    with nogil:
        for i in range(rows):
            value = 0
            if cells[i * stride].size >= 0 and integer(&cells[i * stride], bits, &value) < 0:
                wrong = True
                break
            if bits == 64:
                memcpy(to + i * 8, &value, 8)
            elif bits == 32:
                value32 = <int32_t>value
                memcpy(to + i * 4, &value32, 4)
            else:
                value16 = <int16_t>value
                memcpy(to + i * 2, &value16, 2)
    if wrong:
        raise ValueError(f"a text that is no integer of {bits} bits")
    return made


cdef bytes booleans_of(const cell_t* cells, Py_ssize_t stride, Py_ssize_t rows):
    cdef Py_ssize_t i
    cdef bytes made = PyBytes_FromStringAndSize(NULL, (rows + 7) // 8)
    cdef unsigned char* to = <unsigned char*>PyBytes_AS_STRING(made)
    cdef const cell_t* cell
    cdef bint wrong = False
    memset(to, 0, <size_t>(rows + 7) // 8)
    with nogil:
        for i in range(rows):
            cell = cells + i * stride
            if cell.size < 0:
                continue
            if cell.size != 1 or (cell.at[0] != c't' and cell.at[0] != c'f'):
                wrong = True
                break
            if cell.at[0] == c't':
                to[i >> 3] |= <unsigned char>(1 << (i & 7))
    if wrong:
        raise ValueError("a text that is no boolean")
    return made
