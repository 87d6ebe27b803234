# Rows of one width. Included by _cython.pyx.

cdef class Store:
    """Owns a table of cells, and keeps alive the bytes that they stand in."""

    cdef cell_t* cells
    cdef list sources

    def __cinit__(self):
        self.cells = NULL

    def __dealloc__(self):
        free(self.cells)


cdef Rows rows_of(Py_ssize_t width, cells_t* cells, Py_ssize_t count, list sources):
    """Rows that own ``cells`` from here on."""
    cdef Store store = Store.__new__(Store)
    store.cells, store.sources = cells.at, sources
    cells.at = NULL
    cells.used = cells.room = 0
    return part_of(width, store, store.cells, count)


cdef Rows part_of(Py_ssize_t width, Store store, const cell_t* first, Py_ssize_t count):
    cdef Rows made = Rows.__new__(Rows, width)
    made.store, made.first, made.count = store, first, count
    return made


cdef cells_t room_for(Py_ssize_t rows, Py_ssize_t width) except *:
    """Unused cells for so many rows, for the caller to fill or to free."""
    cdef cells_t cells
    memset(&cells, 0, sizeof(cells))
    if width > 0 and rows > MOST // <Py_ssize_t>sizeof(cell_t) // width:
        raise MemoryError
    if cells_room(&cells, rows * width) < 0:
        raise MemoryError
    return cells


cdef class Rows:
    """An immutable sequence of rows, or of keys, that are ``width`` columns wide."""

    cdef readonly Py_ssize_t width
    cdef Py_ssize_t count
    cdef const cell_t* first
    cdef Store store

    def __cinit__(self, Py_ssize_t width):
        if width < 0:
            raise ValueError("rows of less than no columns")
        self.width = width
        self.count = 0
        self.first = NULL
        self.store = None

    @staticmethod
    def of(Py_ssize_t width, rows):
        """Rows of Python's cells. Raises `ValueError` for a row of another width."""
        cdef list sources = [], given = list(rows)
        cdef Py_ssize_t i
        cdef cells_t cells
        if width < 0:
            raise ValueError("rows of less than no columns")
        cells = room_for(len(given), width)
        try:
            for i in range(len(given)):
                point_at(given[i], cells.at + i * width, width, sources)
            return rows_of(width, &cells, len(given), sources)
        finally:
            free(cells.at)

    @staticmethod
    def joined(Py_ssize_t width, parts):
        """All rows of ``parts``, one part after the other."""
        cdef list given = [<Rows?>part for part in parts], sources = []
        cdef Py_ssize_t count = 0
        cdef Rows part
        cdef cells_t cells
        for part in given:
            if part.width != width:
                raise ValueError(f"rows of {part.width} columns among rows of {width}")
            if count > MOST - part.count:
                raise MemoryError
            count += part.count
        filled = [part for part in given if part.count]
        if len(filled) == 1:
            return filled[0]
        cells = room_for(count, width)
        for part in filled:
            copy_cells(cells.at + cells.used, part.first, part.count * width)
            cells.used += part.count * width
            if part.store.sources is not None:
                sources += part.store.sources
        return rows_of(width, &cells, count, sources)

    def __len__(self):
        return self.count

    def __iter__(self):
        cdef Py_ssize_t i
        for i in range(self.count):
            yield cell_objects(self.first + i * self.width, self.width)

    def __getitem__(self, index):
        cdef Py_ssize_t i
        if isinstance(index, slice):
            start, stop, step = index.indices(self.count)
            if step != 1:
                return self.take(range(start, stop, step))
            return part_of(self.width, self.store, self.first + <Py_ssize_t>start * self.width, max(0, stop - start))
        i = index
        if i < 0:
            i += self.count
        if not 0 <= i < self.count:
            raise IndexError(f"row {index} of {self.count}")
        return cell_objects(self.first + i * self.width, self.width)

    def __eq__(self, other):
        """Equal cells in the same order; a list of rows may be compared, too."""
        cdef Rows rows
        cdef Py_ssize_t i
        if isinstance(other, list):
            if len(other) != self.count:
                return False
            return all([isinstance(row, (list, tuple)) and mine == list(row) for mine, row in zip(self, other)])
        if not isinstance(other, Rows):
            return NotImplemented
        rows = other
        if rows.count != self.count or (rows.width != self.width and self.count):
            return False
        for i in range(self.count * self.width):
            if not same_cell(&self.first[i], &rows.first[i]):
                return False
        return True

    __hash__ = None

    def __repr__(self):
        """Without cells: these never stand in logs or errors."""
        return f"<{self.count} rows of {self.width} columns>"

    def size_bytes(self):
        """Of all cells' texts."""
        return self.bytes_of(0, self.count)

    cdef Py_ssize_t bytes_of(self, Py_ssize_t start, Py_ssize_t end) noexcept nogil:
        cdef Py_ssize_t i, size = 0
        for i in range(start * self.width, end * self.width):
            if self.first[i].size > 0:
                size += self.first[i].size
        return size

    def column(self, Py_ssize_t column):
        """The cells of one column."""
        cdef Py_ssize_t i
        self.check(column)
        cdef list cells = [None] * self.count
        for i in range(self.count):
            cells[i] = cell_object(&self.first[i * self.width + column])
        return cells

    def project(self, columns):
        """Rows of these columns, in this order."""
        cdef Py_ssize_t wide = 0, i, k
        cdef Py_ssize_t* picked = places(columns, self.width, &wide)
        cdef cells_t cells
        try:
            cells = room_for(self.count, wide)
            with nogil:
                for i in range(self.count):
                    for k in range(wide):
                        cells.at[i * wide + k] = self.first[i * self.width + picked[k]]
        finally:
            free(picked)
        return rows_of(wide, &cells, self.count, self.sources())

    def take(self, indexes):
        """The rows at ``indexes``, in this order."""
        cdef list given = list(indexes)
        cdef Py_ssize_t i, index
        cdef cells_t cells = room_for(len(given), self.width)
        try:
            for i in range(len(given)):
                index = given[i]
                if not 0 <= index < self.count:
                    raise IndexError(f"row {index} of {self.count}")
                copy_cells(cells.at + i * self.width, self.first + index * self.width, self.width)
            return rows_of(self.width, &cells, len(given), self.sources())
        finally:
            free(cells.at)

    def chunks(self, Py_ssize_t max_rows, Py_ssize_t max_bytes):
        """All rows in order, as parts of at most so many rows and bytes; a row that is larger is a part of its own."""
        cdef Py_ssize_t start = 0, end, size = 0, added
        for end in range(self.count):
            added = self.bytes_of(end, end + 1)
            if end > start and (end - start >= max_rows or added > max_bytes - size):
                yield self[start:end]
                start, size = end, 0
            size += added
        if start < self.count:
            yield self[start:]

    def masks(self):
        """The distinct sets of columns that are UNCHANGED in a row, as they first come, and for each row
        which of them it has (unsigned 32-bit numbers)."""
        groups = array("I", bytes(4 * self.count))
        cdef uint32_t* numbers = <uint32_t*><uintptr_t>groups.buffer_info()[0]
        cdef dict known = {}
        cdef bytes last = None
        cdef Py_ssize_t i, width = self.width
        cdef uint32_t group = 0
        cdef unsigned char* room = <unsigned char*>malloc(<size_t>width + 1)
        if room == NULL:
            raise MemoryError
        try:
            for i in range(self.count):
                mask_of(self.first + i * width, width, room)
                if last is None or memcmp(room, PyBytes_AS_STRING(last), <size_t>width) != 0:
                    last = PyBytes_FromStringAndSize(<const char*>room, width)
                    group = known.setdefault(last, len(known))
                numbers[i] = group
        finally:
            free(room)
        return [frozenset([k for k in range(width) if mask[k]]) for mask in known], groups

    def unchanged_as_null(self):
        """The same rows with NULL where the log carries nothing."""
        cdef Py_ssize_t i, total = self.count * self.width
        cdef cells_t cells = room_for(self.count, self.width)
        with nogil:
            for i in range(total):
                cells.at[i] = self.first[i]
                if cells.at[i].size == UNCHANGED_CELL:
                    cells.at[i].size = NULL_CELL
        return rows_of(self.width, &cells, self.count, self.sources())

    # -- what leaves the process: `ValueError` where a cell is UNCHANGED -------------------------------

    def text_array(self, *columns):
        """One column, or several end to end, as ``text[]`` in binary format."""
        cdef Py_ssize_t count = 0
        cdef Py_ssize_t* picked = places(columns, self.width, &count)
        try:
            return array_of(self.first, self.width, self.count, picked, count)
        finally:
            free(picked)

    def copy_text(self, columns):
        """Lines for COPY … FROM STDIN, text format, of these columns in this order."""
        cdef Py_ssize_t count = 0
        cdef Py_ssize_t* picked = places(columns, self.width, &count)
        try:
            return lines_of(self.first, self.width, self.count, picked, count)
        finally:
            free(picked)

    def copy_binary(self, columns, str kinds):
        """Tuples for COPY … FROM STDIN, binary format, without header and trailer, of these columns in this order.
        ``kinds``: a letter for each, see `logship.kernel._python_binary`. `ValueError` where a text isn't the very
        text of a value."""
        cdef Py_ssize_t count = 0
        cdef bytes letters = kinds.encode("ascii")
        cdef Py_ssize_t* picked = places(columns, self.width, &count)
        try:
            if len(letters) != count or not _KINDS.issuperset(kinds):
                raise ValueError(f"{count} columns of the kinds {kinds}")
            return tuples_of(self.first, self.width, self.count, picked, count, PyBytes_AS_STRING(letters))
        finally:
            free(picked)

    def since_2000(self, Py_ssize_t column, bint zone):
        """A column of timestamps as ``text[]``, in binary format, of microseconds since 2000; ``zone``: UTC stands
        behind. `ValueError` where a text isn't the very text of one, or a double doesn't hold the number."""
        self.check(column)
        return since_2000(self.first + column, self.width, self.count, zone)

    def arrow_text(self, Py_ssize_t column):
        """Validity (None: no NULLs), offsets (int32) and data of an Arrow string or binary array. Whether
        it is UTF-8 isn't checked."""
        self.check(column)
        validity = validity_of(self.first + column, self.width, self.count)
        offsets, data = texts_of(self.first + column, self.width, self.count)
        return validity, offsets, data

    def arrow_int(self, Py_ssize_t column, int bits):
        """Validity and values of an Arrow int16, int32 or int64 array. `ValueError` for a text that such a number
        doesn't have in PostgreSQL."""
        if bits not in (16, 32, 64):
            raise ValueError(f"integers of {bits} bits")
        self.check(column)
        validity = validity_of(self.first + column, self.width, self.count)
        return validity, integers_of(self.first + column, self.width, self.count, bits)

    def arrow_bool(self, Py_ssize_t column):
        """Validity and values (a bitmap) of an Arrow bool array: of the texts t and f."""
        self.check(column)
        validity = validity_of(self.first + column, self.width, self.count)
        return validity, booleans_of(self.first + column, self.width, self.count)

    # -- values, where each text is the very text of one that the form holds; else `ValueError` --------

    def arrow_date(self, Py_ssize_t column):
        """Validity and values of an Arrow date32 array; of years 1 to 9999."""
        self.check(column)
        validity = validity_of(self.first + column, self.width, self.count)
        return validity, values_of(self.first + column, self.width, self.count, a_date, 4)

    def arrow_time(self, Py_ssize_t column):
        """Validity and values of an Arrow time64[us] array; before 24:00:00."""
        self.check(column)
        validity = validity_of(self.first + column, self.width, self.count)
        return validity, values_of(self.first + column, self.width, self.count, a_time, 8)

    def arrow_timestamp(self, Py_ssize_t column, bint zone):
        """Validity and values of an Arrow timestamp[us] array, of years 1 to 9999; ``zone``: UTC stands behind."""
        self.check(column)
        validity = validity_of(self.first + column, self.width, self.count)
        return validity, values_of(
            self.first + column, self.width, self.count, a_timestamptz if zone else a_timestamp, 8
        )

    def arrow_decimal(self, Py_ssize_t column, int precision, int scale):
        """Validity and values of an Arrow decimal128 array, of texts with ``scale`` digits behind the point."""
        self.check(column)
        validity = validity_of(self.first + column, self.width, self.count)
        return validity, decimals_of(self.first + column, self.width, self.count, precision, scale)

    def arrow_float(self, Py_ssize_t column, int bits):
        """Validity and values of an Arrow float or double array, of numbers with few figures."""
        if bits not in (32, 64):
            raise ValueError(f"floats of {bits} bits")
        self.check(column)
        validity = validity_of(self.first + column, self.width, self.count)
        return validity, values_of(
            self.first + column, self.width, self.count, a_float if bits == 32 else a_double, bits // 8
        )

    def arrow_bytea(self, Py_ssize_t column):
        """Validity, offsets and data of an Arrow binary array, of what bytea's hex means."""
        self.check(column)
        validity = validity_of(self.first + column, self.width, self.count)
        offsets, data = unhexed(self.first + column, self.width, self.count)
        return validity, offsets, data

    cdef int check(self, Py_ssize_t column) except -1:
        if not 0 <= column < self.width:
            raise IndexError(f"column {column} of {self.width}")
        return 0

    cdef list sources(self):
        return [] if self.store is None else self.store.sources


cdef bint mask_of(const cell_t* row, Py_ssize_t width, unsigned char* mask) noexcept nogil:
    """One byte for each column: whether it is UNCHANGED. Whether any is."""
    cdef Py_ssize_t k
    cdef bint found = False
    for k in range(width):
        mask[k] = row[k].size == UNCHANGED_CELL
        if mask[k]:
            found = True
    return found
