# Changes of one table, taken in one after the other. Included by _cython.pyx.

cdef enum:
    TAKEN = 0
    NEW_STEP = 1  # two rows would stand under one key
    MALFORMED = 2
    NO_MEMORY = 3

cdef enum:
    _INSERTED = -1  # in place of an origin
    _NOT_THERE = -2

cdef enum:
    _ROW_INSERTED = 0
    _ROW_UPDATED = 1  # two rows: the old one and the new one
    _ROW_DELETED = 2


# Of a table without key: rows of one kind, one behind the other.
cdef struct operation_t:
    int kind
    Py_ssize_t rows


cdef struct table_t:
    bint keyed
    Py_ssize_t width
    Py_ssize_t of_key
    Py_ssize_t* key  # `of_key` columns, then `of_key` numbers from 0 on
    cell_t* scratch  # two rows, two keys
    # With a key: rows by the key that they have now, and of each the key that it had at first.
    shelf_t live
    Py_ssize_t* origin  # of each row: which of `origins`, or _INSERTED, or _NOT_THERE any more
    Py_ssize_t origin_room
    cells_t origins
    Py_ssize_t standing  # rows that are there
    shelf_t gone  # keys that went
    # Without a key: all rows in order, and what becomes of them.
    cells_t rows
    operation_t* operations
    Py_ssize_t operation_count
    Py_ssize_t operation_room
    Py_ssize_t changes


cdef int table_open(table_t* table, Py_ssize_t width, const Py_ssize_t* key, Py_ssize_t of_key) noexcept nogil:
    """An empty table with a key, or without when ``of_key`` is 0. -1: there is no memory; close it all the same."""
    cdef Py_ssize_t k
    memset(table, 0, sizeof(table_t))
    if width > 0xffff or of_key > width:
        return -1
    table.keyed, table.width, table.of_key = of_key > 0, width, of_key
    table.key = <Py_ssize_t*>malloc(<size_t>(2 * of_key + 1) * sizeof(Py_ssize_t))
    table.scratch = <cell_t*>malloc(<size_t>(2 * width + 2 * of_key + 1) * sizeof(cell_t))
    if table.key == NULL or table.scratch == NULL:
        return -1
    for k in range(of_key):
        table.key[k] = key[k]
        table.key[of_key + k] = k
    table.live.width, table.live.of_key, table.live.key = width, of_key, table.key
    table.gone.width, table.gone.of_key, table.gone.key = of_key, of_key, table.key + of_key
    return 0


cdef void table_empty(table_t* table) noexcept nogil:
    shelf_clear(&table.live)
    shelf_clear(&table.gone)
    free(table.origin)
    free(table.origins.at)
    free(table.rows.at)
    free(table.operations)
    memset(&table.origins, 0, sizeof(cells_t))
    memset(&table.rows, 0, sizeof(cells_t))
    table.origin, table.operations = NULL, NULL
    table.origin_room = table.standing = 0
    table.operation_count = table.operation_room = table.changes = 0


cdef void table_close(table_t* table) noexcept nogil:
    table_empty(table)
    free(table.key)
    free(table.scratch)
    table.key, table.scratch = NULL, NULL


cdef inline cell_t* old_row(table_t* table) noexcept nogil:
    return table.scratch


cdef inline cell_t* new_row(table_t* table) noexcept nogil:
    return table.scratch + table.width


cdef int key_cells(const table_t* table, const cell_t* row, int which, cell_t** key) noexcept nogil:
    """The key of ``row``, in one of two places; -1: the log doesn't carry it."""
    cdef cell_t* to = table.scratch + 2 * table.width + which * table.of_key
    cdef Py_ssize_t k
    for k in range(table.of_key):
        to[k] = row[table.key[k]]
        if to[k].size == UNCHANGED_CELL:
            return -1
    key[0] = to
    return 0


cdef int live_room(table_t* table) noexcept nogil:
    """Room for one more row, its origin and a key that went."""
    cdef Py_ssize_t room
    cdef void* grown
    if shelf_room(&table.live) < 0 or shelf_room(&table.gone) < 0:
        return -1
    if cells_room(&table.origins, table.of_key) < 0:
        return -1
    if table.live.count >= table.origin_room:
        room = 2 * table.origin_room + 64
        if room > MOST // 8:
            return -1
        grown = realloc(table.origin, <size_t>room * sizeof(Py_ssize_t))
        if grown == NULL:
            return -1
        table.origin, table.origin_room = <Py_ssize_t*>grown, room
    return 0


cdef Py_ssize_t new_origin(table_t* table, const cell_t* key) noexcept nogil:
    cdef Py_ssize_t number = table.origins.used // table.of_key
    copy_cells(table.origins.at + table.origins.used, key, table.of_key)
    table.origins.used += table.of_key
    return number


cdef void merge_row(cell_t* known, const cell_t* row, Py_ssize_t width) noexcept nogil:
    """``known`` becomes ``row``, but for what that doesn't carry."""
    cdef Py_ssize_t k
    for k in range(width):
        if row[k].size != UNCHANGED_CELL:
            known[k] = row[k]


cdef inline void put_row(
    table_t* table, uint64_t hashed, const cell_t* key, const cell_t* row, Py_ssize_t origin
) noexcept nogil:
    """A row whose key isn't there; there is room."""
    table.origin[shelf_add(&table.live, hashed, key, row)] = origin
    table.standing += 1


cdef void remove_row(table_t* table, Py_ssize_t number, uint64_t hashed, const cell_t* key) noexcept nogil:
    shelf_take_off(&table.live, hashed, key)
    table.origin[number] = _NOT_THERE
    table.standing -= 1


cdef int insert_keyed(table_t* table, const cell_t* row) noexcept nogil:
    cdef cell_t* key = NULL
    cdef uint64_t hashed
    if key_cells(table, row, 0, &key) < 0:
        return MALFORMED
    hashed = hash_of(key, table.of_key)
    if shelf_find(&table.live, hashed, key) >= 0:
        return NEW_STEP
    if live_room(table) < 0:
        return NO_MEMORY
    put_row(table, hashed, key, row, _INSERTED)
    return TAKEN


cdef int update_keyed(table_t* table, const cell_t* row) noexcept nogil:
    """Of a row whose key stays what it is."""
    cdef cell_t* key = NULL
    cdef uint64_t hashed
    cdef Py_ssize_t number
    if key_cells(table, row, 0, &key) < 0:
        return MALFORMED
    hashed = hash_of(key, table.of_key)
    number = shelf_find(&table.live, hashed, key)
    if number >= 0:
        merge_row(table.live.cells.at + number * table.width, row, table.width)
        return TAKEN
    if live_room(table) < 0:
        return NO_MEMORY
    put_row(table, hashed, key, row, new_origin(table, key))
    return TAKEN


cdef int move_keyed(table_t* table, const cell_t* old, bint old_is_key, cell_t* row) noexcept nogil:
    """``row``, which is changed, gets those unchanged cells that the old tuple carries: a TOASTed key comes only
    there."""
    cdef cell_t* before = NULL
    cdef cell_t* after = NULL
    cdef uint64_t hashed, hashed_after
    cdef Py_ssize_t number, origin, k
    cdef bint stays = True
    if key_cells(table, old, 0, &before) < 0:
        return MALFORMED
    if old_is_key:
        for k in range(table.of_key):
            if row[table.key[k]].size == UNCHANGED_CELL:
                row[table.key[k]] = old[table.key[k]]
    else:
        fill_row(row, old, table.width)
    if key_cells(table, row, 1, &after) < 0:
        return MALFORMED
    for k in range(table.of_key):
        stays = stays and same_cell(&before[k], &after[k])
    hashed = hashed_after = hash_of(before, table.of_key)
    if not stays:
        hashed_after = hash_of(after, table.of_key)
        if shelf_find(&table.live, hashed_after, after) >= 0:
            return NEW_STEP
    number = shelf_find(&table.live, hashed, before)
    if number >= 0 and stays:
        merge_row(table.live.cells.at + number * table.width, row, table.width)
        return TAKEN
    if live_room(table) < 0:
        return NO_MEMORY
    if number < 0:
        put_row(table, hashed_after, after, row, new_origin(table, before))
        return TAKEN
    origin = table.origin[number]
    fill_row(row, table.live.cells.at + number * table.width, table.width)
    remove_row(table, number, hashed, before)
    put_row(table, hashed_after, after, row, origin)
    return TAKEN


cdef void fill_row(cell_t* row, const cell_t* known, Py_ssize_t width) noexcept nogil:
    """``row`` gets from ``known`` what it doesn't carry."""
    cdef Py_ssize_t k
    for k in range(width):
        if row[k].size == UNCHANGED_CELL:
            row[k] = known[k]


cdef int delete_key(table_t* table, const cell_t* key) noexcept nogil:
    cdef uint64_t hashed = hash_of(key, table.of_key)
    cdef const cell_t* origin = key
    cdef Py_ssize_t number
    if live_room(table) < 0:
        return NO_MEMORY
    number = shelf_find(&table.live, hashed, key)
    if number >= 0:
        if table.origin[number] == _INSERTED:
            origin = NULL
        else:
            origin = table.origins.at + table.origin[number] * table.of_key
        remove_row(table, number, hashed, key)
    if origin == NULL:
        return TAKEN
    hashed = hash_of(origin, table.of_key)
    if shelf_find(&table.gone, hashed, origin) < 0:
        shelf_add(&table.gone, hashed, origin, origin)
    return TAKEN


cdef int add_operation(table_t* table, int kind, const cell_t* row, const cell_t* other) noexcept nogil:
    """To a table without key; ``other`` NULL: there is one row only."""
    cdef Py_ssize_t room
    cdef void* grown
    cdef operation_t* last
    if cells_room(&table.rows, 2 * table.width) < 0:
        return NO_MEMORY
    if table.operation_count == table.operation_room:
        room = 2 * table.operation_room + 16
        if room > MOST // 16:
            return NO_MEMORY
        grown = realloc(table.operations, <size_t>room * sizeof(operation_t))
        if grown == NULL:
            return NO_MEMORY
        table.operations, table.operation_room = <operation_t*>grown, room
    copy_cells(table.rows.at + table.rows.used, row, table.width)
    table.rows.used += table.width
    if other != NULL:
        copy_cells(table.rows.at + table.rows.used, other, table.width)
        table.rows.used += table.width
    table.changes += 1
    if kind == _ROW_INSERTED and table.operation_count > 0:
        last = &table.operations[table.operation_count - 1]
        if last.kind == _ROW_INSERTED:
            last.rows += 1
            return TAKEN
    table.operations[table.operation_count].kind = kind
    table.operations[table.operation_count].rows = 1
    table.operation_count += 1
    return TAKEN


cdef int table_insert(table_t* table) noexcept nogil:
    """The new row in `scratch`."""
    if table.keyed:
        return insert_keyed(table, new_row(table))
    return add_operation(table, _ROW_INSERTED, new_row(table), NULL)


cdef int table_update(table_t* table, bint has_old, bint old_is_key) noexcept nogil:
    """Old and new row in `scratch`."""
    if table.keyed:
        if has_old:
            return move_keyed(table, old_row(table), old_is_key, new_row(table))
        return update_keyed(table, new_row(table))
    if not has_old or old_is_key:
        return MALFORMED
    fill_row(new_row(table), old_row(table), table.width)
    return add_operation(table, _ROW_UPDATED, old_row(table), new_row(table))


cdef int table_delete(table_t* table) noexcept nogil:
    """The old row in `scratch`."""
    cdef cell_t* key = NULL
    if not table.keyed:
        return add_operation(table, _ROW_DELETED, old_row(table), NULL)
    if key_cells(table, old_row(table), 0, &key) < 0:
        return MALFORMED
    return delete_key(table, key)


cdef int table_change(table_t* table, octets message, Py_ssize_t end) noexcept nogil:
    """An Insert, Update or Delete of the table, from its tag on."""
    cdef Py_ssize_t at = 5
    cdef unsigned char tag = message[0]
    cdef bint has_old = False, old_is_key = False
    if end < 6:
        return MALFORMED
    if tag != c'I' and (message[5] == c'K' or message[5] == c'O'):
        has_old, old_is_key = True, message[5] == c'K'
        at = 6
        if read_tuple(message, end, &at, old_row(table), table.width) < 0:
            return MALFORMED
    if tag == c'D':
        return table_delete(table) if has_old and at == end else MALFORMED
    if at >= end or message[at] != c'N':
        return MALFORMED
    at += 1
    if read_tuple(message, end, &at, new_row(table), table.width) < 0 or at != end:
        return MALFORMED
    if tag == c'I':
        return table_insert(table)
    return table_update(table, has_old, old_is_key)
