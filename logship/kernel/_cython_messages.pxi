# Runs, messages and tuples as Python's objects. Included by _cython.pyx.

cdef list as_list(object messages):
    """The messages as bytes objects, which stay alive with the list."""
    return [one if isinstance(one, bytes) else bytes(memoryview(one)) for one in messages]


cdef Py_ssize_t framed_size(list messages, Py_ssize_t added) except -1:
    """Of all ``messages``, each with so many bytes added."""
    cdef Py_ssize_t total = 0, size
    for one in messages:
        size = PyBytes_GET_SIZE(one)
        if <uint64_t>size + added > 0xffffffff or total > MOST:
            raise ValueError("a message of more than 4 GB")
        total += size + added
    return total


def frame(messages):
    """A run: each message behind its length (4 bytes, big endian)."""
    cdef list items = as_list(messages)
    cdef bytes run = PyBytes_FromStringAndSize(NULL, framed_size(items, 4))
    cdef unsigned char* to = <unsigned char*>PyBytes_AS_STRING(run)
    cdef Py_ssize_t size
    for one in items:
        size = PyBytes_GET_SIZE(one)
        put_u32(to, <uint32_t>size)
        memcpy(to + 4, PyBytes_AS_STRING(one), <size_t>size)
        to += 4 + size
    return run


cdef Py_ssize_t message_end(octets run, Py_ssize_t end, Py_ssize_t offset) noexcept nogil:
    """Where the message ends whose length stands at ``offset``; -1: inside its length; -2: inside itself."""
    cdef uint32_t size
    if offset < 0 or end - offset < 4:
        return -1
    size = get_u32(run + offset)
    if <uint64_t>size > <uint64_t>(end - offset - 4):
        return -2
    return offset + 4 + <Py_ssize_t>size


cdef tuple one_message(bytes run, Py_ssize_t offset):
    cdef octets at = <octets>PyBytes_AS_STRING(run)
    cdef Py_ssize_t following = message_end(at, PyBytes_GET_SIZE(run), offset)
    if following == -1:
        raise ValueError(f"a run ends inside a length at byte {offset}")
    if following == -2:
        raise ValueError(f"a run ends inside a message at byte {offset + 4}")
    return PyBytes_FromStringAndSize(<const char*>at + offset + 4, following - offset - 4), following


def message_at(bytes run not None, Py_ssize_t offset):
    """The message whose length stands at ``offset``, and the offset behind it."""
    return one_message(run, offset)


def split_run(bytes run not None):
    """The messages of a run, in order. `frame` is its inverse."""
    cdef list messages = []
    cdef Py_ssize_t offset = 0, following, end = PyBytes_GET_SIZE(run)
    cdef octets at = <octets>PyBytes_AS_STRING(run)
    while offset < end:
        following = message_end(at, end, offset)
        if following < 0:
            one_message(run, offset)  # says what is wrong
        messages.append(PyBytes_FromStringAndSize(<const char*>at + offset + 4, following - offset - 4))
        offset = following
    return messages


def xlogdata(messages, bytes head not None):
    """CopyData messages: each of ``messages`` behind the same XLogData header (25 bytes)."""
    cdef list items = as_list(messages)
    cdef Py_ssize_t fixed = PyBytes_GET_SIZE(head), size
    cdef bytes sent = PyBytes_FromStringAndSize(NULL, framed_size(items, 5 + fixed))
    cdef unsigned char* to = <unsigned char*>PyBytes_AS_STRING(sent)
    for one in items:
        size = PyBytes_GET_SIZE(one)
        to[0] = c'd'
        put_u32(to + 1, <uint32_t>(4 + fixed + size))
        memcpy(to + 5, PyBytes_AS_STRING(head), <size_t>fixed)
        memcpy(to + 5 + fixed, PyBytes_AS_STRING(one), <size_t>size)
        to += 5 + fixed + size
    return sent


def survey(messages):
    """The relations (oids as four bytes) whose rows ``messages`` change, and whether there is nothing else in
    them than rows and what stands around a transaction: Begin, Commit, Origin."""
    cdef set relations = set()
    cdef bint plain = True, seen = False
    cdef uint32_t last = 0, oid
    cdef octets at
    for one in as_list(messages):
        at = <octets>PyBytes_AS_STRING(one)
        if PyBytes_GET_SIZE(one) == 0:
            plain = False
        elif at[0] == c'I' or at[0] == c'U' or at[0] == c'D':
            if PyBytes_GET_SIZE(one) < 5:
                relations.add(one[1:])
                continue
            oid = get_u32(at + 1)
            if not seen or oid != last:
                relations.add(PyBytes_FromStringAndSize(<const char*>at + 1, 4))
                seen, last = True, oid
        elif at[0] != c'B' and at[0] != c'C' and at[0] != c'O':
            plain = False
    return relations, plain


cdef Py_ssize_t next_relation(
    octets run, Py_ssize_t end, Py_ssize_t offset, uint32_t* oid, bint* seen, bint* plain
) noexcept nogil:
    """From ``offset`` to behind the first row whose relation isn't ``oid``, which it becomes, or to the end; ``plain``
    is false where something describes or truncates a relation. -1: no framed messages."""
    cdef Py_ssize_t following
    cdef unsigned char tag
    cdef uint32_t found
    while offset < end:
        following = message_end(run, end, offset)
        if following < 0:
            return -1
        if following - offset >= 9:
            tag = run[offset + 4]
            if tag == c'I' or tag == c'U' or tag == c'D':
                found = get_u32(run + offset + 5)
                if not seen[0] or found != oid[0]:
                    seen[0], oid[0] = True, found
                    return following
            elif tag == c'R' or tag == c'Y' or tag == c'T':
                plain[0] = False
        offset = following
    return end


def relations_of(bytes run not None):
    """The oids of the relations whose rows ``run`` changes, and whether nothing in it describes or truncates one.
    `ValueError` when it isn't framed messages."""
    cdef octets at = <octets>PyBytes_AS_STRING(run)
    cdef Py_ssize_t end = PyBytes_GET_SIZE(run), offset = 0
    cdef uint32_t oid = 0, last
    cdef bint seen = False, before, plain = True
    cdef set relations = set()
    while offset < end:
        last, before = oid, seen
        offset = next_relation(at, end, offset, &oid, &seen, &plain)
        if offset < 0:
            raise ValueError("a run ends inside a message")
        if seen and (not before or oid != last):
            relations.add(oid)
    return relations, plain


cdef list tuple_objects(octets message, Py_ssize_t end, Py_ssize_t* offset):
    cdef Py_ssize_t at = offset[0], count, i
    cdef cell_t cell
    cdef list cells
    if at < 0 or at > end - 2:
        raise ValueError(f"a tuple is cut short at byte {at}")
    count = (<Py_ssize_t>message[at] << 8) | message[at + 1]
    at += 2
    cells = []
    for i in range(count):
        if read_cell(message, end, &at, &cell) < 0:
            raise ValueError(f"a cell is cut short or of an unknown kind at byte {at}")
        cells.append(cell_object(&cell))
    offset[0] = at
    return cells


def tuple_at(bytes message not None, Py_ssize_t offset):
    """TupleData at ``offset`` of a pgoutput message: its cells, and the offset behind it."""
    cells = tuple_objects(<octets>PyBytes_AS_STRING(message), PyBytes_GET_SIZE(message), &offset)
    return cells, offset


def row_change(bytes message not None):
    """An Insert, Update or Delete: old row, whether only its key is meant, and new row. An Insert has no old row,
    a Delete no new one; nothing else is said of which there are."""
    cdef octets at = <octets>PyBytes_AS_STRING(message)
    cdef Py_ssize_t end = PyBytes_GET_SIZE(message), offset = 5
    cdef list old = None, new = None
    cdef bint is_key = False
    if end < 6:
        raise ValueError(f"a row message is cut short at byte {end}")
    if (at[5] == c'K' or at[5] == c'O') and at[0] != c'I':
        is_key = at[5] == c'K'
        offset = 6
        old = tuple_objects(at, end, &offset)
    elif at[5] != c'N':
        raise ValueError(f"a tuple of kind {at[5]:#04x} at byte 5")
    if at[0] != c'D':
        if offset >= end or at[offset] != c'N':
            raise ValueError(f"no new tuple at byte {offset}")
        offset += 1
        new = tuple_objects(at, end, &offset)
    if offset != end:
        raise ValueError(f"a row message goes on behind its end at byte {offset}")
    return old, is_key, new


def binary_text_array(cells):
    """``text[]`` in PostgreSQL's binary format (array_recv), one dimension, lower bound 1."""
    cdef list given = list(cells)
    cdef cells_t pointed
    cdef list sources = []
    memset(&pointed, 0, sizeof(pointed))
    if cells_room(&pointed, len(given)) < 0:
        raise MemoryError
    try:
        point_at(given, pointed.at, len(given), sources)
        return array_of(pointed.at, 1, len(given), NULL, 0)
    finally:
        free(pointed.at)
