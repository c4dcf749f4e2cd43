"""What every network on planes of pixel pairs needs besides its own blocks: compiled functions, as text."""

PIECES = '''
@njit(inline="always")
def whole_vectors(count):
    """A number of entries rounded up to whole vectors: what is computed beyond is never read."""
    return count + -count % VECTOR


@njit(**OPTIONS)
def region(height, width, down, across, circular):
    """Which pixels of the first image meet pixels of the second: rows from, to, columns from, to."""
    if circular:
        return 0, height, 0, width
    return max(0, -down), min(height, height - down), max(0, -across), min(width, width - across)


@njit(**OPTIONS)
def interleave(sides, out):
    """Lay the numbers of several images, (lanes, k), side by side: (k * lanes,)."""
    for k in range(sides.shape[1]):
        for lane in range(LANES):
            out[k * LANES + lane] = sides[lane, k]


@njit(**OPTIONS)
def spread(sides, out):
    """The numbers of one image, (k,), in every lane."""
    full_width()
    for k in range(sides.size):
        value = sides[k]
        for lane in range(LANES):
            out[k * LANES + lane] = value


@njit(**OPTIONS)
def fill(slots, begin, count, value):
    for j in range(count):
        slots[begin + j] = value


@njit(**OPTIONS)
def move(slots, begin, source, source_at, count):
    for j in range(count):
        slots[begin + j] = source[source_at + j]


@njit(**OPTIONS)
def border(slots, source, plane, rows, row_at, columns, column_at, pitch, origin, height, width, down, across, circular,
           above, below, before, behind):
    """What a window sees of a plane beyond its region.

    Where only one of both pixels lies in its image, the other counts as 0: no covariance, and its variance as squared
    distance. On a circular image what lies opposite.
    """
    top, bottom, left, right = region(height, width, down, across, circular)
    count = (right - left + before + behind) * LANES
    for i in range(top - above, bottom + below):
        begin = source + origin + i * pitch
        if circular:
            origin_row = source + origin + (i % height) * pitch
            for number in range(3):
                shift = number * plane
                if i < top or i >= bottom:
                    move(slots, begin + shift, slots, origin_row + shift, width * LANES)
                for j in range(1, before + 1):
                    move(slots, begin + shift - j * LANES, slots, origin_row + shift + (width - j) * LANES, LANES)
                for j in range(behind):
                    move(slots, begin + shift + (width + j) * LANES, slots, origin_row + shift + j * LANES, LANES)
            continue
        far = begin + 2 * plane
        if top <= i < bottom:
            for number in range(3):
                fill(slots, begin + number * plane + (left - before) * LANES, before * LANES, f(0.0))
                fill(slots, begin + number * plane + right * LANES, behind * LANES, f(0.0))
            here, there = row_at + i * width * LANES, column_at + ((i + down) * width + across) * LANES
            # The sides where a pixel of the first image has no partner, or one of the second.
            if across < 0:
                first = max(0, left - before)
                move(slots, far + first * LANES, rows, here + first * LANES, (left - first) * LANES)
                some = min(behind, -across)
                move(slots, far + right * LANES, columns, there + right * LANES, some * LANES)
            else:
                first = max(-across, left - before)
                move(slots, far + first * LANES, columns, there + first * LANES, (left - first) * LANES)
                some = min(behind, across)
                move(slots, far + right * LANES, rows, here + right * LANES, some * LANES)
            continue
        for number in range(3):
            fill(slots, begin + number * plane + (left - before) * LANES, count, f(0.0))
        if 0 <= i < height:
            first, stop = max(0, left - before), min(width, right + behind)
            move(slots, far + first * LANES, rows, row_at + (i * width + first) * LANES, (stop - first) * LANES)
        elif 0 <= i + down < height:
            first, stop = max(-across, left - before), min(width - across, right + behind)
            move(slots, far + first * LANES, columns, column_at + ((i + down) * width + across + first) * LANES,
                 (stop - first) * LANES)


@njit(**OPTIONS)
def enter(slots, target, plane, rows, row_at, row_size, columns, column_at, column_size, channels, pitch, origin,
          height, width, down, across, circular):
    """Begin with pixels: their channels are numbers of each image."""
    full_width()
    top, bottom, left, right = region(height, width, down, across, circular)
    columns_wide = 2 * width if circular else width
    count = (right - left) * LANES
    for i in range(top, bottom):
        begin = target + origin + i * pitch + left * LANES
        cov, ntk = slots[begin : begin + count], slots[begin + plane : begin + plane + count]
        distance = slots[begin + 2 * plane : begin + 2 * plane + count]
        for j in range(count):
            cov[j] = f(0.0)
            ntk[j] = f(0.0)
            distance[j] = f(0.0)
        at = row_at + (i * width + left) * LANES
        other = column_at + ((i + down) * columns_wide + left + across) * LANES
        for channel in range(channels):
            one, two = rows[at : at + count], columns[other : other + count]
            for j in range(count):
                difference = one[j] - two[j]
                distance[j] += difference * difference
                cov[j] += one[j] * two[j]
            at += row_size
            other += column_size


@njit(**OPTIONS)
def enter_pooled(slots, target, plane, rows, row_at, row_size, columns, column_at, column_size, pooled, begin, pitch,
                 origin, height, width, down, across, circular):
    """Begin with what pooling left, laid out over rows of both images, then pixels of both rows.

    Squared distances are what covariances and variances imply: within rounding of coincidence counts as coincidence.
    """
    full_width()
    top, bottom, left, right = region(height, width, down, across, circular)
    columns_wide = 2 * width if circular else width
    half = height * height * width * width * LANES
    for i in range(top, bottom):
        block = begin + (i * height + (i + down) % height) * width * width * LANES
        for j in range(left, right):
            cell = block + (j * width + (j + across) % width) * LANES
            out = target + origin + i * pitch + j * LANES
            at = row_at + (i * width + j) * LANES
            other = column_at + ((i + down) * columns_wide + j + across) * LANES
            cov, ntk = slots[out : out + LANES], slots[out + plane : out + plane + LANES]
            distance = slots[out + 2 * plane : out + 2 * plane + LANES]
            product, tangent = pooled[cell : cell + LANES], pooled[cell + half : cell + half + LANES]
            one, two = rows[at : at + LANES], columns[other : other + LANES]
            inverse1 = rows[at + row_size : at + row_size + LANES]
            inverse2 = columns[other + column_size : other + column_size + LANES]
            for lane in range(LANES):
                gap, inverse = one[lane] - two[lane], inverse1[lane] * inverse2[lane]
                defect = f(1.0) - product[lane] * inverse
                defect = defect if defect > f(NOISE) else f(0.0)
                distance[lane] = gap * gap + f(2.0) * (one[lane] * two[lane]) * defect
                cov[lane] = product[lane]
                ntk[lane] = tangent[lane]


@njit(**OPTIONS)
def branch(slots, source, target, plane, add, pitch, origin, height, width, down, across, circular):
    """Copy a state to another, or add it."""
    full_width()
    top, bottom, left, right = region(height, width, down, across, circular)
    count = (right - left) * LANES
    for i in range(top, bottom):
        for number in range(3):
            shift = number * plane + origin + i * pitch + left * LANES
            here, there = slots[source + shift : source + shift + count], slots[target + shift : target + shift + count]
            if add:
                for j in range(count):
                    there[j] += here[j]
            else:
                for j in range(count):
                    there[j] = here[j]


@njit(**OPTIONS)
def pool(slots, source, plane, targets_down, shares_down, targets_across, shares_across, pooled, begin, after_height,
         after_width, pitch, origin, height, width, down, across, circular):
    """Add the pairs of pixels to the pairs of windows that they lie in."""
    full_width()
    top, bottom, left, right = region(height, width, down, across, circular)
    half = after_height * after_height * after_width * after_width * LANES
    for i in range(top, bottom):
        k = (i + down) % height
        for a in range(targets_down.shape[1]):
            for b in range(targets_down.shape[1]):
                share_down = shares_down[i, a] * shares_down[k, b]
                if share_down == f(0.0):
                    continue
                block = (targets_down[i, a] * after_height + targets_down[k, b]) * after_width * after_width * LANES
                for j in range(left, right):
                    m = (j + across) % width
                    out = source + origin + i * pitch + j * LANES
                    cov, ntk = slots[out : out + LANES], slots[out + plane : out + plane + LANES]
                    for c in range(targets_across.shape[1]):
                        for d in range(targets_across.shape[1]):
                            share = share_down * shares_across[j, c] * shares_across[m, d]
                            if share == f(0.0):
                                continue
                            cell = block + (targets_across[j, c] * after_width + targets_across[m, d]) * LANES + begin
                            product, tangent = pooled[cell : cell + LANES], pooled[cell + half : cell + half + LANES]
                            for lane in range(LANES):
                                product[lane] += share * cov[lane]
                                tangent[lane] += share * ntk[lane]


@njit(**OPTIONS)
def total(slots, source, plane, line, totals, pitch, origin, height, width, down, across, circular):
    """Add all pairs of pixels of a plane to the totals of both kernels, (2, lanes), in float64."""
    full_width()
    top, bottom, left, right = region(height, width, down, across, circular)
    count = (right - left) * LANES
    for number in range(2):
        line[:count] = f(0.0)
        for i in range(top, bottom):
            begin = source + origin + i * pitch + left * LANES + number * plane
            here = slots[begin : begin + count]
            for j in range(count):
                line[j] += here[j]
        for j in range(right - left):
            for lane in range(LANES):
                totals[number, lane] += line[j * LANES + lane]
'''
