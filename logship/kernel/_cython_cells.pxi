# Cells: where their text stands, and how it is read from a message. Included by _cython.pyx.

cdef extern from *:
    """
    /* The most bytes that one allocation of ours may have. */
    #define LOGSHIP_MOST ((Py_ssize_t) (PY_SSIZE_T_MAX / 4))
    """
    const Py_ssize_t MOST "LOGSHIP_MOST"

ctypedef const unsigned char* octets

cdef enum:
    NULL_CELL = -1
    UNCHANGED_CELL = -2


cdef struct cell_t:
    octets at
    Py_ssize_t size  # or NULL_CELL, or UNCHANGED_CELL; `at` means nothing then


# Cells one after the other, that grow at their end.
cdef struct cells_t:
    cell_t* at
    Py_ssize_t used
    Py_ssize_t room


cdef int cells_room(cells_t* cells, Py_ssize_t more) noexcept nogil:
    """Room for ``more`` cells behind those that are used; -1: there is no memory, and nothing has changed."""
    cdef Py_ssize_t room
    cdef void* grown
    if more <= cells.room - cells.used:
        return 0
    if more > MOST // <Py_ssize_t>sizeof(cell_t) - cells.used:
        return -1
    room = cells.used + more
    if room < 2 * cells.room:
        room = 2 * cells.room
    if room < 64:
        room = 64
    grown = realloc(cells.at, <size_t>room * sizeof(cell_t))
    if grown == NULL:
        return -1
    cells.at = <cell_t*>grown
    cells.room = room
    return 0


cdef inline void copy_cells(cell_t* to, const cell_t* cells, Py_ssize_t count) noexcept nogil:
    if count > 0:
        memcpy(to, cells, <size_t>count * sizeof(cell_t))


cdef inline uint32_t get_u32(octets at) noexcept nogil:
    return (<uint32_t>at[0] << 24) | (<uint32_t>at[1] << 16) | (<uint32_t>at[2] << 8) | at[3]


cdef inline void put_u32(unsigned char* to, uint32_t value) noexcept nogil:
    to[0] = <unsigned char>(value >> 24)
    to[1] = <unsigned char>((value >> 16) & 0xff)
    to[2] = <unsigned char>((value >> 8) & 0xff)
    to[3] = <unsigned char>(value & 0xff)


cdef inline bint same_cell(const cell_t* one, const cell_t* other) noexcept nogil:
    if one.size != other.size:
        return False
    return one.size <= 0 or memcmp(one.at, other.at, <size_t>one.size) == 0


cdef int read_cell(octets message, Py_ssize_t end, Py_ssize_t* offset, cell_t* cell) noexcept nogil:
    """The cell at ``offset``, which moves behind it; -1: it is cut short, or of an unknown kind."""
    cdef Py_ssize_t at = offset[0]
    cdef uint32_t size
    if at >= end:
        return -1
    if message[at] == c't':
        if end - at < 5:
            return -1
        size = get_u32(message + at + 1)
        if <uint64_t>size > <uint64_t>(end - at - 5):
            return -1
        cell.at = message + at + 5
        cell.size = <Py_ssize_t>size
        offset[0] = at + 5 + cell.size
        return 0
    if message[at] == c'n':
        cell.size = NULL_CELL
    elif message[at] == c'u':
        cell.size = UNCHANGED_CELL
    else:
        return -1
    cell.at = NULL
    offset[0] = at + 1
    return 0


cdef int read_tuple(
    octets message, Py_ssize_t end, Py_ssize_t* offset, cell_t* cells, Py_ssize_t width
) noexcept nogil:
    """The cells of TupleData at ``offset``, which moves behind it; -1: malformed, or not ``width`` wide."""
    cdef Py_ssize_t at = offset[0], i
    if end - at < 2 or ((<Py_ssize_t>message[at] << 8) | message[at + 1]) != width:
        return -1
    at += 2
    for i in range(width):
        if read_cell(message, end, &at, &cells[i]) < 0:
            return -1
    offset[0] = at
    return 0


cdef inline object cell_object(const cell_t* cell):
    if cell.size >= 0:
        return PyBytes_FromStringAndSize(<const char*>cell.at, cell.size)
    return None if cell.size == NULL_CELL else _UNCHANGED


cdef list cell_objects(const cell_t* cells, Py_ssize_t count):
    cdef Py_ssize_t i
    cdef list made = [None] * count
    for i in range(count):
        made[i] = cell_object(&cells[i])
    return made


cdef int point_at(object row, cell_t* cells, Py_ssize_t width, list sources) except -1:
    """Let ``cells`` be those of the Python row, whose texts are kept in ``sources``."""
    cdef list given = list(row)
    cdef Py_ssize_t i
    if len(given) != width:
        raise ValueError(f"a row of {len(given)} columns among rows of {width}")
    for i in range(width):
        cell = given[i]
        cells[i].at = NULL
        if cell is None:
            cells[i].size = NULL_CELL
        elif cell is _UNCHANGED:
            cells[i].size = UNCHANGED_CELL
        elif isinstance(cell, bytes):
            sources.append(cell)
            cells[i].at = <octets>PyBytes_AS_STRING(cell)
            cells[i].size = PyBytes_GET_SIZE(cell)
        else:
            raise TypeError(f"a cell is bytes, None or UNCHANGED, not {type(cell).__name__}")
    return 0


cdef Py_ssize_t* places(object columns, Py_ssize_t width, Py_ssize_t* count) except NULL:
    """Column numbers as an array, for the caller to free. `IndexError`: one is outside of ``width``."""
    cdef list given = list(columns)
    cdef Py_ssize_t i, column
    cdef Py_ssize_t* made = <Py_ssize_t*>malloc((<size_t>len(given) + 1) * sizeof(Py_ssize_t))
    if made == NULL:
        raise MemoryError
    for i in range(len(given)):
        try:
            column = given[i]
        except BaseException:
            free(made)
            raise
        if not 0 <= column < width:
            free(made)
            raise IndexError(f"column {column} of {width}")
        made[i] = column
    count[0] = len(given)
    return made
