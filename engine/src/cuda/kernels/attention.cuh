// Attention within texts over packed rows: no padding, no mask except at the end. A tile is a text and the first query
// of a block; the host provides the list of tiles.
#pragma once
#include "platform.cuh"

// Queries, keys and values: all heads side by side, rows `stride` numbers apart. The heads of queries share those of keys
// in turn: head i has the keys of head i % key_heads.
template <class T>
struct Heads {
    const T* queries;
    const T* keys;
    const T* values;
    T* out;
    unsigned query_stride, key_stride, width, key_heads;
    float scale;
};

// The tokens before and after its own that a query attends to.
struct Reach {
    unsigned before, after;

    DEVICE unsigned first(unsigned query) const { return query > before ? query - before : 0; }
    DEVICE unsigned end(unsigned query, unsigned length) const { return length - query > after ? query + after + 1 : length; }
};

// Numbers added to the scores by head and distance from the query to the key, from 1 - tokens to tokens - 1; none if null.
// `unscale` undoes the scale that scores are multiplied by afterwards.
struct Bias {
    const float* numbers;
    unsigned tokens;
    float unscale;

    // The place of distance 0.
    DEVICE unsigned of_head(unsigned head) const { return head * (2 * tokens - 1) + tokens - 1; }
};

// ---------------------------------------------------------------- any number type, any head of up to 256: a warp per query

constexpr int LANE_COMPONENTS = 8;

template <int STEP, class T>
DEVICE float product(const float* query, const T* key, unsigned size) {
    float sum = 0;
    for (unsigned at = 0; at < size; at += STEP) {
        float values[STEP];
        load_numbers(key + at, values);
        for (int i = 0; i < STEP; i++) sum += query[at + i] * values[i];
    }
    return sum;
}

// The queries of a launch: of every token, or of one token per text, whose query and context are then row i of text i.
enum Selection : unsigned { EVERY = 0, FIRST_TOKEN = 1, LAST_TOKEN = 2 };

// The block is (32, queries of the tile); shared memory holds `size` floats per query.
template <class T>
DEVICE void attend(Heads<T> heads, Reach reach, Bias bias, const unsigned* offsets, const unsigned* tiles, unsigned size,
                   unsigned selection) {
    SHARED_MEMORY(memory);
    unsigned text = tiles[2 * blockIdx.x], index = tiles[2 * blockIdx.x + 1] + threadIdx.y, lane = threadIdx.x;
    unsigned start = offsets[text], length = offsets[text + 1] - start;
    if (index >= (selection == EVERY ? length : 1)) return;
    if (selection == LAST_TOKEN) index = length - 1;
    size_t row = selection == EVERY ? start + index : text;
    size_t column = size_t(blockIdx.y) * size, key_column = size_t(blockIdx.y % heads.key_heads) * size;
    float* query = reinterpret_cast<float*>(memory) + threadIdx.y * size;
    for (unsigned at = lane; at < size; at += 32)
        query[at] = widen(heads.queries[row * heads.query_stride + column + at]) * heads.scale;
    sync_warp();

    float highest = MINUS_INFINITY, total = 0, context[LANE_COMPONENTS] = {};
    const T* keys = heads.keys + size_t(start) * heads.key_stride + key_column;
    const T* values = heads.values + size_t(start) * heads.key_stride + key_column;
    unsigned own = bias.of_head(blockIdx.y) - index;
    unsigned end = reach.end(index, length);
    for (unsigned base = reach.first(index); base < end; base += 32) {
        float score = MINUS_INFINITY;
        if (base + lane < end) {
            const T* key = keys + size_t(base + lane) * heads.key_stride;
            score = size % 8 == 0 ? product<8>(query, key, size) : product<1>(query, key, size);
            if (bias.numbers) score += bias.numbers[own + base + lane];
        }
        float higher = fmaxf(highest, warp_max(score));
        float fade = expf(highest - higher), weight = expf(score - higher);
        total = total * fade + warp_sum(weight);
        highest = higher;
        for (int part = 0; part < LANE_COMPONENTS; part++) context[part] *= fade;
        unsigned count = end - base < 32 ? end - base : 32;
        for (unsigned key = 0; key < count; key++) {
            float share = shuffle_from(weight, key);
            const T* value = values + size_t(base + key) * heads.key_stride;
#pragma unroll
            for (int part = 0; part < LANE_COMPONENTS; part++)
                if (part * 32 + lane < size) context[part] += share * widen(value[part * 32 + lane]);
        }
    }
#pragma unroll
    for (int part = 0; part < LANE_COMPONENTS; part++)
        if (part * 32 + lane < size) narrow(context[part] / total, heads.out[row * heads.width + column + part * 32 + lane]);
}

// ---------------------------------------------------------------- f16 and bf16 on tensor cores

// Queries of a block, sixteen for each of its four warps.
constexpr int TILE = 64;
// Keys of a step: few enough that keys and values of two steps fit into shared memory.
template <int SIZE>
constexpr int KEYS_OF = SIZE <= 128 ? 64 : 32;
constexpr int FLASH_THREADS = 128;

// A tile of COUNT rows in shared memory, padded by eight numbers per row, so that the eight rows of a matrix load are in
// different banks for every multiple of sixteen.
template <class T, int SIZE, int COUNT>
struct TileRows {
    static constexpr int STRIDE = SIZE + 8;
    static constexpr int NUMBERS = COUNT * STRIDE;
    T* first;

    DEVICE const T* at(int row, int column) const { return first + row * STRIDE + column; }

    // Starts copying `count` rows and zeroes the others, since 0 times garbage may be NaN. A thread keeps its column,
    // so that addresses cost an addition each.
    DEVICE void fetch(const T* from, unsigned stride, unsigned count) const {
        constexpr unsigned CHUNKS = SIZE / 8, ROWS = FLASH_THREADS / CHUNKS;
        unsigned row = threadIdx.x / CHUNKS, column = threadIdx.x % CHUNKS * 8;
        if (ROWS * CHUNKS < FLASH_THREADS && row >= ROWS) return;
        T* to = first + row * STRIDE + column;
        const T* source = from + row * stride + column;
#pragma unroll
        for (unsigned below = 0; below < COUNT; below += ROWS) {
            if (COUNT % ROWS == 0 || row + below < COUNT) {
                bool wanted = row + below < count;
                copy_16(to + below * STRIDE, wanted ? source + below * stride : from, wanted);
            }
        }
    }
};

// The keys of a step that a warp's queries see: columns from `first` to `end` by any, and by the two rows of this lane
// those from `from` to `to`.
struct Seen {
    int first, end, from[2], to[2];
};

// A warp's state for its sixteen queries. A lane holds parts of the rows `lane / 4` and `lane / 4 + 8`. WITHIN some keys
// are hidden from some queries; BIASED scores have a bias.
template <class T, int SIZE, bool WITHIN, bool BIASED>
struct Queries {
    static constexpr int KEYS = KEYS_OF<SIZE>;
    // The context of larger heads leaves no registers for queries.
    static constexpr bool IN_REGISTERS = SIZE <= 128;
    using QueryRows = TileRows<T, SIZE, TILE>;
    using KeyRows = TileRows<T, SIZE, KEYS>;
    const T* first_query;
    unsigned queries[IN_REGISTERS ? SIZE / 16 : 1][4];
    float context[SIZE / 8][4];
    float highest[2], total[2];

    DEVICE void begin(QueryRows tile, int first_row, int lane) {
        first_query = tile.at(first_row + lane % 16, lane / 16 * 8);
        for (int part = 0; IN_REGISTERS && part < SIZE / 16; part++) load_matrices(queries[part], first_query + part * 16);
        for (int part = 0; part < SIZE / 8; part++)
            for (int i = 0; i < 4; i++) context[part][i] = 0;
        for (int half = 0; half < 2; half++) highest[half] = MINUS_INFINITY, total[half] = 0;
    }

    // One step over the seen keys and their values. FULL steps, the most common, need no bounds check. `bias` is that of
    // the first column for the lane's first row.
    template <bool FULL>
    DEVICE void attend(KeyRows keys, KeyRows values, Seen seen, const float* bias, float scale, int lane) {
        float scores[KEYS / 8][4];
        score<FULL>(scores, keys, seen, lane);
        if (BIASED) add_bias(scores, bias);
        weigh<FULL>(scores, seen, scale, lane);
        add<FULL>(scores, values, seen, lane);
    }

    // Whether some query sees one of the sixteen keys of a block.
    template <bool FULL>
    static DEVICE bool sees(int block, Seen seen) {
        return FULL || (block * 16 < seen.end && (!WITHIN || block * 16 + 16 > seen.first));
    }

    // scores[n] are those of the keys 8n to 8n + 7.
    template <bool FULL>
    DEVICE void score(float (&scores)[KEYS / 8][4], KeyRows keys, Seen seen, int lane) {
#pragma unroll
        for (int block = 0; block < KEYS / 16; block++) {
            for (int i = 0; i < 4; i++) scores[2 * block][i] = scores[2 * block + 1][i] = 0;
            if (sees<FULL>(block, seen)) {
#pragma unroll
                for (int part = 0; part < SIZE / 16; part++) {
                    unsigned b[4];
                    load_matrices(b, keys.at(block * 16 + lane % 8 + lane / 16 * 8, part * 16 + lane / 8 % 2 * 8));
                    if constexpr (!IN_REGISTERS) load_matrices(queries[0], first_query + part * 16);
                    const unsigned(&a)[4] = queries[IN_REGISTERS ? part : 0];
                    multiply_add(scores[2 * block], a, b[0], b[1], T());
                    multiply_add(scores[2 * block + 1], a, b[2], b[3], T());
                }
            }
        }
    }

    // The bias of a row for eight columns is that of the row eight below for the next ones.
    static DEVICE void add_bias(float (&scores)[KEYS / 8][4], const float* bias) {
        float before[2] = {bias[-8], bias[-7]};
#pragma unroll
        for (int block = 0; block < KEYS / 8; block++) {
#pragma unroll
            for (int i = 0; i < 2; i++) {
                float here = bias[block * 8 + i];
                scores[block][i] += here;
                scores[block][2 + i] += before[i];
                before[i] = here;
            }
        }
    }

    // Online softmax: exponentiates against the maximum so far, rescaling the sums when it rises.
    template <bool FULL>
    DEVICE void weigh(float (&scores)[KEYS / 8][4], Seen seen, float scale, int lane) {
        float higher[2] = {highest[0], highest[1]};
#pragma unroll
        for (int block = 0; block < KEYS / 8; block++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                int column = block * 8 + lane % 4 * 2 + i % 2;
                if (!FULL && (column >= seen.to[i / 2] || (WITHIN && column < seen.from[i / 2]))) scores[block][i] = MINUS_INFINITY;
                higher[i / 2] = fmaxf(higher[i / 2], scores[block][i]);
            }
        }
#pragma unroll
        for (int half = 0; half < 2; half++) {
            // Reduces the maximum over the four lanes of a row.
            higher[half] = fmaxf(higher[half], shuffle_xor(higher[half], 1));
            higher[half] = fmaxf(higher[half], shuffle_xor(higher[half], 2));
            // A row may see none of the keys so far: infinity from infinity would be NaN.
            float shown = WITHIN && !FULL && higher[half] == MINUS_INFINITY ? 0.0f : higher[half];
            float fade = exp2_fast((highest[half] - shown) * scale);
            highest[half] = higher[half];
            higher[half] = shown * scale;
            total[half] *= fade;
#pragma unroll
            for (int part = 0; part < SIZE / 8; part++) context[part][2 * half] *= fade, context[part][2 * half + 1] *= fade;
        }
#pragma unroll
        for (int block = 0; block < KEYS / 8; block++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                scores[block][i] = exp2_fast(fmaf(scores[block][i], scale, -higher[i / 2]));
                total[i / 2] += scores[block][i];
            }
        }
    }

    // Accumulates the weighted values. The score fragments have the layout of the weight fragments.
    template <bool FULL>
    DEVICE void add(const float (&weights)[KEYS / 8][4], KeyRows values, Seen seen, int lane) {
#pragma unroll
        for (int block = 0; block < KEYS / 16; block++) {
            if (sees<FULL>(block, seen)) {
                const float(&low)[4] = weights[2 * block];
                const float(&high)[4] = weights[2 * block + 1];
                unsigned a[4] = {pack_pair<T>(low[0], low[1]), pack_pair<T>(low[2], low[3]), pack_pair<T>(high[0], high[1]),
                                 pack_pair<T>(high[2], high[3])};
#pragma unroll
                for (int part = 0; part < SIZE / 16; part++) {
                    unsigned b[4];
                    load_matrices_transposed(b, values.at(block * 16 + lane % 16, part * 16 + lane / 16 * 8));
                    multiply_add(context[2 * part], a, b[0], b[1], T());
                    multiply_add(context[2 * part + 1], a, b[2], b[3], T());
                }
            }
        }
    }

    // Writes the existing rows; `out` is the first of the warp's. Heads begin at even columns, so pairs are aligned.
    DEVICE void write(T* out, size_t stride, unsigned count, int lane) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float sum = total[half] + shuffle_xor(total[half], 1);
            float share = 1.0f / (sum + shuffle_xor(sum, 2));
            unsigned row = lane / 4 + half * 8;
            if (row < count) {
#pragma unroll
                for (int part = 0; part < SIZE / 8; part++) {
                    unsigned pair = pack_pair<T>(context[part][2 * half] * share, context[part][2 * half + 1] * share);
                    *reinterpret_cast<unsigned*>(out + row * stride + part * 8 + lane % 4 * 2) = pair;
                }
            }
        }
    }
};

// The keys of a tile of queries: from `first` on, by steps.
template <int KEYS>
struct KeySteps {
    unsigned first, end, count;
    DEVICE unsigned start(unsigned step) const { return first + step * KEYS; }
    DEVICE unsigned keys_in(unsigned step) const { return end - start(step) < KEYS ? end - start(step) : KEYS; }
};

template <int KEYS, bool WITHIN>
DEVICE KeySteps<KEYS> key_steps(Reach reach, unsigned query, unsigned asking, unsigned length) {
    unsigned first = WITHIN ? reach.first(query) : 0, end = WITHIN ? reach.end(query + asking - 1, length) : length;
    return {first, end, (end - first + KEYS - 1) / KEYS};
}

// What a warp with queries from `top` to `bottom` sees of a step's keys. Sets `full` if every query sees all of a whole tile.
template <bool WITHIN, int KEYS>
DEVICE Seen seen_in(KeySteps<KEYS> steps, unsigned step, Reach reach, unsigned top, unsigned bottom, unsigned length, int lane, bool& full) {
    int start = steps.start(step), count = steps.keys_in(step);
    full = count == KEYS;
    Seen seen{0, count, {0, 0}, {count, count}};
    if (WITHIN) {
        auto limited = [&](unsigned key) { return int(key) < start ? 0 : (int(key) - start < count ? int(key) - start : count); };
        full = full && int(reach.first(bottom)) <= start && int(reach.end(top, length)) >= start + KEYS;
        seen.first = limited(reach.first(top)), seen.end = limited(reach.end(bottom, length));
        for (int half = 0; half < 2; half++) {
            unsigned query = top + lane / 4 + half * 8;
            if (query > bottom) query = bottom;
            seen.from[half] = limited(reach.first(query)), seen.to[half] = limited(reach.end(query, length));
        }
    }
    return seen;
}

// As FlashAttention: scores stay in registers, and the next keys and values are copied during computation. Shared
// memory holds five tiles (queries, two of keys, two of values), and where scores are BIASED the bias of two steps by
// distance. `scale` includes log2(e), since weights are computed by exp2. Heads share keys only WITHIN a reach, which may
// be unlimited.
template <class T, int SIZE, bool WITHIN, bool BIASED>
DEVICE void flash(Heads<T> heads, Reach reach, Bias bias, const unsigned* offsets, const unsigned* tiles) {
    SHARED_MEMORY(memory);
    using QueryRows = TileRows<T, SIZE, TILE>;
    using KeyRows = TileRows<T, SIZE, KEYS_OF<SIZE>>;
    T* numbers = reinterpret_cast<T*>(memory);
    QueryRows query_tile{numbers};
    unsigned text = tiles[2 * blockIdx.x], first = tiles[2 * blockIdx.x + 1];
    unsigned start = offsets[text], length = offsets[text + 1] - start;
    unsigned asking = length - first < TILE ? length - first : TILE;
    size_t column = size_t(blockIdx.y) * SIZE, key_column = WITHIN ? size_t(blockIdx.y % heads.key_heads) * SIZE : column;
    int warp_row = threadIdx.x / 32 * 16, lane = threadIdx.x % 32;
    unsigned top = first + warp_row, bottom = warp_row + 16 < int(asking) ? top + 15 : first + asking - 1;
    auto steps = key_steps<KEYS_OF<SIZE>, WITHIN>(reach, first, asking, length);
    T* tiles_of_keys = numbers + QueryRows::NUMBERS;
    auto tile = [&](unsigned step, int which) { return KeyRows{tiles_of_keys + (step % 2 * 2 + which) * KeyRows::NUMBERS}; };
    auto biases = [&](unsigned step) { return reinterpret_cast<float*>(tiles_of_keys + 4 * KeyRows::NUMBERS) + step % 2 * 2 * TILE; };
    auto fetch = [&](unsigned step) {
        size_t from = size_t(start + steps.start(step)) * heads.key_stride + key_column;
        tile(step, 0).fetch(heads.keys + from, heads.key_stride, steps.keys_in(step));
        tile(step, 1).fetch(heads.values + from, heads.key_stride, steps.keys_in(step));
        copies_commit();
    };

    query_tile.fetch(heads.queries + size_t(start + first) * heads.query_stride + column, heads.query_stride, asking);
    fetch(0);
    Queries<T, SIZE, WITHIN, BIASED> warp;
    bool has_queries = unsigned(warp_row) < asking;
    for (unsigned step = 0; step < steps.count; step++) {
        // From the last query of the tile to the first key of the step, and on.
        int distance = int(steps.start(step) + threadIdx.x) - int(first + TILE - 1);
        bool known = distance > -int(bias.tokens) && distance < int(bias.tokens);
        if (BIASED) biases(step)[threadIdx.x] = known ? bias.numbers[bias.of_head(blockIdx.y) + distance] * bias.unscale : 0.0f;
        if (step + 1 < steps.count) {
            fetch(step + 1);
            copies_wait<1>();
        } else {
            copies_wait<0>();
        }
        sync_block();
        if (step == 0) warp.begin(query_tile, warp_row, lane);
        if (has_queries) {
            KeyRows keys = tile(step, 0), values = tile(step, 1);
            bool full;
            Seen seen = seen_in<WITHIN>(steps, step, reach, top, bottom, length, lane, full);
            const float* of_row = biases(step) + TILE - 1 - warp_row - lane / 4 + lane % 4 * 2;
            if (full) warp.template attend<true>(keys, values, seen, of_row, heads.scale, lane);
            else if (!WITHIN || seen.first < seen.end) warp.template attend<false>(keys, values, seen, of_row, heads.scale, lane);
        }
        // The next step's copies overwrite this tile.
        sync_block();
    }
    if (has_queries) {
        T* out = heads.out + size_t(start + first + warp_row) * heads.width + column;
        warp.write(out, heads.width, asking - warp_row, lane);
    }
}
