# Row changes of one table reduced to their net effect. Included by _cython.pyx.

cdef class Table:
    """What `Keyed` and `Keyless` share. ``entered``: somebody is at work in here, perhaps without the interpreter's
    lock; nobody else may be."""

    cdef table_t table
    cdef list sources
    cdef bint entered

    def __cinit__(self):
        memset(&self.table, 0, sizeof(table_t))
        self.sources = []
        self.entered = False

    def __dealloc__(self):
        table_close(&self.table)

    cdef int open(self, Py_ssize_t width, object key) except -1:
        cdef Py_ssize_t of_key = 0
        cdef Py_ssize_t* columns
        cdef int status
        if not 0 <= width <= 0xffff:
            raise ValueError("a table of no such width")
        if self.table.scratch != NULL:
            raise RuntimeError("it is made already")
        columns = places(key, width, &of_key)
        status = table_open(&self.table, width, columns, of_key)
        free(columns)
        if status < 0:
            table_close(&self.table)
            raise MemoryError
        return 0

    cdef int enter(self) except -1:
        if self.entered or self.table.scratch == NULL:
            raise RuntimeError("two threads change one table")
        self.entered = True
        return 0

    cdef int hold(self, object source) except -1:
        """Keep ``source`` alive as long as cells may stand in it."""
        if not self.sources or self.sources[len(self.sources) - 1] is not source:
            self.sources.append(source)
        return 0

    @property
    def width(self):
        return self.table.width

    def insert(self, new):
        self.enter()
        try:
            point_at(new, new_row(&self.table), self.table.width, self.sources)
            return taken(table_insert(&self.table))
        finally:
            self.entered = False

    def update(self, old, old_is_key, new):
        """``old`` None: the key is the new row's. ``old_is_key``: only the key's cells of ``old`` are meant."""
        self.enter()
        try:
            if old is not None:
                point_at(old, old_row(&self.table), self.table.width, self.sources)
            point_at(new, new_row(&self.table), self.table.width, self.sources)
            return taken(table_update(&self.table, old is not None, bool(old_is_key)))
        finally:
            self.entered = False

    def delete(self, old):
        self.enter()
        try:
            point_at(old, old_row(&self.table), self.table.width, self.sources)
            return taken(table_delete(&self.table))
        finally:
            self.entered = False


cdef object taken(int status):
    if status == NO_MEMORY:
        raise MemoryError
    if status == MALFORMED:
        raise ValueError("a row without its key, or an update without key that carries no whole old row")
    return status == TAKEN


cdef class Keyed(Table):
    """The net change of one table with a key. Rows are followed by their key: an entry remembers the key that its
    row had at first and what its cells have become. `insert`, `update` and `delete` say False, and do nothing, when
    two rows would stand under one key. `ValueError`: a row of another width, or without its key."""

    cdef readonly tuple key

    def __init__(self, Py_ssize_t width, key):
        try:
            self.open(width, key)
        except IndexError:
            raise ValueError("a key outside of the columns") from None
        if self.table.of_key == 0:
            raise ValueError("a key outside of the columns")
        self.key = tuple(key)

    def __len__(self):
        """Rows changed."""
        return self.table.standing + self.table.gone.count

    def absorb(self, later):
        """Take in the net change of what follows."""
        cdef Rows deletes, move_keys, move_rows, inserts, rows
        cdef int status
        deletes, updates, move_keys, move_rows, inserts = later
        if move_keys.count != move_rows.count:
            raise ValueError("moves without their keys")
        self.enter()
        try:
            self.from_rows(deletes, self.table.of_key)
            status = absorb_deletes(&self.table, deletes.first, deletes.count)
            for _, _, one in updates:
                if status == TAKEN:
                    rows = one
                    self.from_rows(rows, self.table.width)
                    status = absorb_updates(&self.table, rows.first, rows.count)
            if status == TAKEN:
                self.from_rows(move_keys, self.table.of_key)
                self.from_rows(move_rows, self.table.width)
                status = absorb_moves(&self.table, move_keys.first, move_rows.first, move_rows.count)
            if status == TAKEN:
                self.from_rows(inserts, self.table.width)
                status = absorb_inserts(&self.table, inserts.first, inserts.count)
            taken(status)
        finally:
            self.entered = False

    cdef int from_rows(self, Rows rows, Py_ssize_t width) except -1:
        """Keep alive what ``rows`` stand in."""
        if rows.width != width:
            raise ValueError(f"rows of {rows.width} columns among rows of {width}")
        if rows.count and rows.store.sources:
            self.hold(rows.store.sources)
        return 0

    def take(self):
        """The net change so far; nothing is left in here."""
        self.enter()
        try:
            return net_of(&self.table, self.sources)
        finally:
            table_empty(&self.table)
            self.sources = []
            self.entered = False


cdef int absorb_deletes(table_t* table, const cell_t* keys, Py_ssize_t count) noexcept nogil:
    cdef Py_ssize_t i
    cdef int status = TAKEN
    for i in range(count):
        status = delete_key(table, keys + i * table.of_key)
        if status != TAKEN:
            break
    return status


cdef int absorb_updates(table_t* table, const cell_t* rows, Py_ssize_t count) noexcept nogil:
    cdef Py_ssize_t i
    cdef int status = TAKEN
    for i in range(count):
        status = update_keyed(table, rows + i * table.width)
        if status != TAKEN:
            break
    return status


cdef int put_anyway(table_t* table, const cell_t* row, Py_ssize_t origin) noexcept nogil:
    """A row under its key, also where another one stands."""
    cdef cell_t* key = NULL
    cdef uint64_t hashed
    cdef Py_ssize_t number
    if key_cells(table, row, 0, &key) < 0:
        return MALFORMED
    hashed = hash_of(key, table.of_key)
    number = shelf_find(&table.live, hashed, key)
    if number >= 0:
        copy_cells(table.live.cells.at + number * table.width, row, table.width)
        table.origin[number] = origin
        return TAKEN
    if live_room(table) < 0:
        return NO_MEMORY
    put_row(table, hashed, key, row, origin)
    return TAKEN


cdef int absorb_inserts(table_t* table, const cell_t* rows, Py_ssize_t count) noexcept nogil:
    cdef Py_ssize_t i
    cdef int status = TAKEN
    for i in range(count):
        status = put_anyway(table, rows + i * table.width, _INSERTED)
        if status != TAKEN:
            break
    return status


cdef int absorb_moves(table_t* table, const cell_t* keys, const cell_t* rows, Py_ssize_t count) noexcept nogil:
    """All leave their old keys before any takes its new one: they may exchange them."""
    cdef Py_ssize_t i, number, origin
    cdef const cell_t* key
    cdef uint64_t hashed
    cdef int status = TAKEN
    cdef Py_ssize_t* known
    if count == 0:
        return TAKEN
    if count > MOST // 16:
        return NO_MEMORY
    known = <Py_ssize_t*>malloc(<size_t>(2 * count) * sizeof(Py_ssize_t))  # its row, its origin
    if known == NULL:
        return NO_MEMORY
    for i in range(count):
        key = keys + i * table.of_key
        hashed = hash_of(key, table.of_key)
        number = shelf_find(&table.live, hashed, key)
        known[2 * i] = number
        if number >= 0:
            known[2 * i + 1] = table.origin[number]
            remove_row(table, number, hashed, key)
    for i in range(count):
        copy_cells(new_row(table), rows + i * table.width, table.width)
        if known[2 * i] >= 0:
            fill_row(new_row(table), table.live.cells.at + known[2 * i] * table.width, table.width)
            origin = known[2 * i + 1]
        elif cells_room(&table.origins, table.of_key) < 0:
            status = NO_MEMORY
            break
        else:
            origin = new_origin(table, keys + i * table.of_key)
        status = put_anyway(table, new_row(table), origin)
        if status != TAKEN:
            break
    free(known)
    return status


# -- the net change ----------------------------------------------------------------------------------

cdef enum:
    _TO_INSERTS = -1
    _TO_MOVES = -2
    _NOWHERE = -3


cdef object net_of(table_t* table, list sources):
    """`Net` of all that stands in the table, whose cells stand in ``sources``."""
    cdef Py_ssize_t count = table.live.count, inserts = 0, moves = 0
    cdef Rows gone
    cdef Rows inserted
    cdef Py_ssize_t* group
    if count > MOST // 8:
        raise MemoryError
    gone = rows_of(table.of_key, &table.gone.cells, table.gone.count, sources)
    table.gone.count = 0
    group = <Py_ssize_t*>malloc(<size_t>(count + 1) * sizeof(Py_ssize_t))
    if group == NULL:
        raise MemoryError
    try:
        with nogil:
            sort_out(table, group, &inserts, &moves)
        if inserts == count:  # nothing else, and none has gone: they stand there as they are wanted
            inserted = rows_of(table.width, &table.live.cells, count, sources)
            return Net(gone, [], Rows(table.of_key), Rows(table.width), inserted)
        sizes = []
        known = group_updates(table, group, sizes)
        return gathered(table, group, sources, gone, known, sizes, moves, inserts)
    finally:
        free(group)


cdef void sort_out(const table_t* table, Py_ssize_t* group, Py_ssize_t* inserts, Py_ssize_t* moves) noexcept nogil:
    """Say of each row where it belongs; 0 for now where it was updated in place."""
    cdef Py_ssize_t i, k
    cdef const cell_t* row
    cdef const cell_t* origin
    for i in range(table.live.count):
        if table.origin[i] == _NOT_THERE:
            group[i] = _NOWHERE
        elif table.origin[i] == _INSERTED:
            group[i] = _TO_INSERTS
            inserts[0] += 1
        else:
            row = table.live.cells.at + i * table.width
            origin = table.origins.at + table.origin[i] * table.of_key
            group[i] = 0
            for k in range(table.of_key):
                if not same_cell(&row[table.key[k]], &origin[k]):
                    group[i] = _TO_MOVES
                    moves[0] += 1
                    break


cdef list group_updates(const table_t* table, Py_ssize_t* group, list sizes):
    """Number the sets of columns that updates carry, as they first come. Of each its mask; ``sizes``: its rows."""
    cdef dict known = {}
    cdef Py_ssize_t i, number = 0, width = table.width
    cdef bytes last = None
    cdef unsigned char* room = <unsigned char*>malloc(<size_t>width + 1)
    if room == NULL:
        raise MemoryError
    try:
        for i in range(table.live.count):
            if group[i] < 0:
                continue
            mask_of(table.live.cells.at + i * width, width, room)
            if last is None or memcmp(room, PyBytes_AS_STRING(last), <size_t>width) != 0:
                last = PyBytes_FromStringAndSize(<const char*>room, width)
                number = known.setdefault(last, len(known))
                if number == len(sizes):
                    sizes.append(0)
            sizes[number] += 1
            group[i] = number
    finally:
        free(room)
    return list(known)


cdef object gathered(
    const table_t* table, const Py_ssize_t* group, list sources, Rows gone, list masks, list sizes,
    Py_ssize_t moves, Py_ssize_t inserts
):
    """Rows and keys of each group by themselves: the last two groups are moves and inserts."""
    cdef Py_ssize_t groups = len(masks) + 2, i, k
    cdef cells_t* rows = <cells_t*>calloc(<size_t>groups, sizeof(cells_t))
    cdef cells_t* keys = <cells_t*>calloc(<size_t>groups, sizeof(cells_t))
    cdef list counts = [*sizes, moves, inserts], made = []
    try:
        if rows == NULL or keys == NULL:
            raise MemoryError
        for i in range(groups):
            rows[i] = room_for(counts[i], table.width)
            keys[i] = room_for(counts[i] if i < groups - 1 else 0, table.of_key)
        with nogil:
            for i in range(table.live.count):
                if group[i] == _NOWHERE:
                    continue
                k = group[i] if group[i] >= 0 else groups - 2 if group[i] == _TO_MOVES else groups - 1
                copy_cells(rows[k].at + rows[k].used, table.live.cells.at + i * table.width, table.width)
                rows[k].used += table.width
                if group[i] != _TO_INSERTS:
                    copy_cells(
                        keys[k].at + keys[k].used, table.origins.at + table.origin[i] * table.of_key, table.of_key
                    )
                    keys[k].used += table.of_key
        for i in range(groups):
            made.append((
                rows_of(table.of_key, &keys[i], counts[i] if i < groups - 1 else 0, sources),
                rows_of(table.width, &rows[i], counts[i], sources),
            ))
    finally:
        for i in range(groups):
            if rows != NULL:
                free(rows[i].at)
            if keys != NULL:
                free(keys[i].at)
        free(rows)
        free(keys)
    updates = [
        (tuple([k for k in range(table.width) if not mask[k]]), *parts)
        for mask, parts in zip(masks, made)
    ]
    return Net(gone, updates, *made[groups - 2], made[groups - 1][1])


# -- without a key ------------------------------------------------------------------------------------


cdef class Keyless(Table):
    """The changes of one table without a key, in order; rows inserted one after the other stay together.
    `ValueError`: a row of another width, or an UPDATE without its whole old row."""

    def __init__(self, Py_ssize_t width):
        self.open(width, ())

    def __len__(self):
        """Rows changed."""
        return self.table.changes

    def absorb(self, later):
        """Take in the changes that follow."""
        cdef Rows rows
        cdef Py_ssize_t i
        for operation in later:
            if isinstance(operation, Rows):
                self.enter()
                try:
                    rows = operation
                    if rows.width != self.table.width:
                        raise ValueError(f"rows of {rows.width} columns among rows of {self.table.width}")
                    if rows.count and rows.store.sources:
                        self.hold(rows.store.sources)
                    for i in range(rows.count):
                        taken(add_operation(&self.table, _ROW_INSERTED, rows.first + i * rows.width, NULL))
                finally:
                    self.entered = False
            else:
                old, new = operation
                if new is None:
                    self.delete(old)
                else:
                    self.update(old, False, new)

    def take(self):
        """The changes so far; nothing is left in here."""
        cdef Py_ssize_t i, width = self.table.width
        cdef const cell_t* at
        cdef Rows rows
        cdef const operation_t* operation
        cdef list operations = []
        self.enter()
        try:
            rows = rows_of(width, &self.table.rows, 0, self.sources)
            at = rows.first
            for i in range(self.table.operation_count):
                operation = &self.table.operations[i]
                if operation.kind == _ROW_INSERTED:
                    operations.append(part_of(width, rows.store, at, operation.rows))
                    at += operation.rows * width
                elif operation.kind == _ROW_DELETED:
                    operations.append((cell_objects(at, width), None))
                    at += width
                else:
                    operations.append((cell_objects(at, width), cell_objects(at + width, width)))
                    at += 2 * width
            return operations
        finally:
            table_empty(&self.table)
            self.sources = []
            self.entered = False


# -- from a run ---------------------------------------------------------------------------------------

cdef enum:
    _KNOWN_OIDS = 256  # more than that are asked for again
    _WITHOUT_LOCK = 16384  # bytes from which on it pays to give up the interpreter's lock

cdef enum:
    _STOPPED = 0
    _ASKED = 1
    _FAILED = 2


# What a relation's oid stands for, as far as one call of `feed` has asked.
cdef struct known_t:
    uint32_t oid
    bint asked
    table_t* table  # NULL: its rows are passed over


cdef struct feeding_t:
    Py_ssize_t offset
    Py_ssize_t changes
    Py_ssize_t known_count
    known_t known[_KNOWN_OIDS]


cdef known_t* known_oid(feeding_t* feeding, uint32_t oid) noexcept nogil:
    """Its place: with it, or where it is to be noted. There is always one that is free."""
    cdef uint32_t place = (oid * <uint32_t>2654435761) >> 24
    while feeding.known[place].asked and feeding.known[place].oid != oid:
        place = (place + 1) % _KNOWN_OIDS
    return &feeding.known[place]


cdef int take_rows(octets run, Py_ssize_t end, feeding_t* feeding) noexcept nogil:
    """Take in rows until a message is for the caller (_STOPPED, as at the end), a relation hasn't been asked for
    (_ASKED), or there is no memory."""
    cdef Py_ssize_t start, following
    cdef unsigned char tag
    cdef known_t* known
    cdef int status
    while feeding.offset < end:
        following = message_end(run, end, feeding.offset)
        start = feeding.offset + 4
        if following <= start:
            return _STOPPED
        tag = run[start]
        if tag == c'I' or tag == c'U' or tag == c'D':
            if following - start < 5:
                return _STOPPED
            known = known_oid(feeding, get_u32(run + start + 1))
            if not known.asked:
                return _ASKED
            if known.table != NULL:
                status = table_change(known.table, run + start, following - start)
                if status != TAKEN:
                    return _FAILED if status == NO_MEMORY else _STOPPED
                feeding.changes += 1
        elif tag != c'B' and tag != c'C' and tag != c'O':
            return _STOPPED
        feeding.offset = following
    return _STOPPED


cdef bint note_table(feeding_t* feeding, uint32_t oid, object tables, bytes run, list entered) except -1:
    """Ask ``tables`` for the relation; False: it isn't in there."""
    cdef Table table
    cdef known_t* known
    if oid not in tables:
        return False
    one = tables[oid]
    if feeding.known_count > _KNOWN_OIDS * 3 // 4:
        memset(feeding.known, 0, sizeof(feeding.known))
        feeding.known_count = 0
    known = known_oid(feeding, oid)
    if one is not None:
        table = <Table?>one
        if not any([table is other for other in entered]):
            table.enter()
            entered.append(table)
            table.hold(run)
        known.table = &table.table
    else:
        known.table = NULL
    known.oid, known.asked = oid, True
    feeding.known_count += 1
    return True


def feed(bytes run not None, Py_ssize_t offset, tables):
    """Take in the row messages of ``run`` from ``offset`` on, by the table's oid; those of a table that is None are
    passed over, and so are Begin, Commit and Origin. Stops at the first message that is for the caller: one of
    another kind, a row of a table that isn't in ``tables``, one for which two rows would stand under one key, one that
    is malformed. Returns where that message's length stands (the run's end when there is none), and how many rows
    were taken in."""
    cdef octets at = <octets>PyBytes_AS_STRING(run)
    cdef Py_ssize_t end = PyBytes_GET_SIZE(run)
    cdef feeding_t feeding
    cdef int status = _STOPPED
    cdef list entered = []
    cdef Table table
    if not 0 <= offset <= end:
        raise ValueError(f"byte {offset} is outside of the run")
    memset(&feeding, 0, sizeof(feeding))
    feeding.offset = offset
    try:
        while True:
            if end - feeding.offset > _WITHOUT_LOCK:
                with nogil:
                    status = take_rows(at, end, &feeding)
            else:
                status = take_rows(at, end, &feeding)
            if status != _ASKED:
                break
            if not note_table(&feeding, get_u32(at + feeding.offset + 5), tables, run, entered):
                break
    finally:
        for table in entered:
            table.entered = False
    if status == _FAILED:
        raise MemoryError
    return feeding.offset, feeding.changes
