// Attention within texts over packed rows: no padding, no mask except at the end. A tile is a text and the first query
// of a block; the host provides the list of tiles.
#pragma once
#include "platform.cuh"

// Queries, keys and values: all heads side by side, rows `stride` numbers apart.
template <class T>
struct Heads {
    const T* queries;
    const T* keys;
    const T* values;
    T* out;
    unsigned query_stride, key_stride, width;
    float scale;
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

// The block is (32, queries of the tile); shared memory holds `size` floats per query. With `one_query`, text i has the
// query of row i alone.
template <class T>
DEVICE void attend(Heads<T> heads, const unsigned* offsets, const unsigned* tiles, unsigned size, bool one_query) {
    SHARED_MEMORY(memory);
    unsigned text = tiles[2 * blockIdx.x], index = tiles[2 * blockIdx.x + 1] + threadIdx.y, lane = threadIdx.x;
    unsigned start = offsets[text], length = offsets[text + 1] - start;
    if (index >= (one_query ? 1 : length)) return;
    size_t row = one_query ? text : start + index;
    size_t column = size_t(blockIdx.y) * size;
    float* query = reinterpret_cast<float*>(memory) + threadIdx.y * size;
    for (unsigned at = lane; at < size; at += 32)
        query[at] = widen(heads.queries[row * heads.query_stride + column + at]) * heads.scale;
    sync_warp();

    float highest = MINUS_INFINITY, total = 0, context[LANE_COMPONENTS] = {};
    const T* keys = heads.keys + size_t(start) * heads.key_stride + column;
    const T* values = heads.values + size_t(start) * heads.key_stride + column;
    for (unsigned base = 0; base < length; base += 32) {
        float score = MINUS_INFINITY;
        if (base + lane < length) {
            const T* key = keys + size_t(base + lane) * heads.key_stride;
            score = size % 8 == 0 ? product<8>(query, key, size) : product<1>(query, key, size);
        }
        float higher = fmaxf(highest, warp_max(score));
        float fade = expf(highest - higher), weight = expf(score - higher);
        total = total * fade + warp_sum(weight);
        highest = higher;
        for (int part = 0; part < LANE_COMPONENTS; part++) context[part] *= fade;
        unsigned count = length - base < 32 ? length - base : 32;
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

// Queries of a block, sixteen for each of its four warps, and keys of a step.
constexpr int TILE = 64;
constexpr int FLASH_THREADS = 128;

// A tile of rows in shared memory, padded by eight numbers per row, so that the eight rows of a matrix load are in
// different banks for every multiple of sixteen.
template <class T, int SIZE>
struct TileRows {
    static constexpr int STRIDE = SIZE + 8;
    static constexpr int NUMBERS = TILE * STRIDE;
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
        for (unsigned below = 0; below < TILE; below += ROWS) {
            if (TILE % ROWS == 0 || row + below < TILE) {
                bool wanted = row + below < count;
                copy_16(to + below * STRIDE, wanted ? source + below * stride : from, wanted);
            }
        }
    }
};

// A warp's state for its sixteen queries. A lane holds parts of the rows `lane / 4` and `lane / 4 + 8`.
template <class T, int SIZE>
struct Queries {
    unsigned queries[SIZE / 16][4];
    float context[SIZE / 8][4];
    float highest[2], total[2];

    DEVICE void begin(TileRows<T, SIZE> tile, int first_row, int lane) {
        for (int part = 0; part < SIZE / 16; part++)
            load_matrices(queries[part], tile.at(first_row + lane % 16, part * 16 + lane / 16 * 8));
        for (int part = 0; part < SIZE / 8; part++)
            for (int i = 0; i < 4; i++) context[part][i] = 0;
        for (int half = 0; half < 2; half++) highest[half] = MINUS_INFINITY, total[half] = 0;
    }

    // One step over `count` keys and their values. FULL steps, the most common, need no bounds check.
    template <bool FULL>
    DEVICE void attend(TileRows<T, SIZE> keys, TileRows<T, SIZE> values, unsigned count, float scale, int lane) {
        float scores[TILE / 8][4];
        score<FULL>(scores, keys, count, lane);
        weigh<FULL>(scores, count, scale, lane);
        add<FULL>(scores, values, count, lane);
    }

    // scores[n] are those of the keys 8n to 8n + 7.
    template <bool FULL>
    DEVICE void score(float (&scores)[TILE / 8][4], TileRows<T, SIZE> keys, unsigned count, int lane) const {
#pragma unroll
        for (int block = 0; block < TILE / 16; block++) {
            for (int i = 0; i < 4; i++) scores[2 * block][i] = scores[2 * block + 1][i] = 0;
            if (FULL || unsigned(block * 16) < count) {
#pragma unroll
                for (int part = 0; part < SIZE / 16; part++) {
                    unsigned b[4];
                    load_matrices(b, keys.at(block * 16 + lane % 8 + lane / 16 * 8, part * 16 + lane / 8 % 2 * 8));
                    multiply_add(scores[2 * block], queries[part], b[0], b[1], T());
                    multiply_add(scores[2 * block + 1], queries[part], b[2], b[3], T());
                }
            }
        }
    }

    // Online softmax: exponentiates against the maximum so far, rescaling the sums when it rises.
    template <bool FULL>
    DEVICE void weigh(float (&scores)[TILE / 8][4], unsigned count, float scale, int lane) {
        float higher[2] = {highest[0], highest[1]};
#pragma unroll
        for (int block = 0; block < TILE / 8; block++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                if (!FULL && unsigned(block * 8 + lane % 4 * 2 + i % 2) >= count) scores[block][i] = MINUS_INFINITY;
                higher[i / 2] = fmaxf(higher[i / 2], scores[block][i]);
            }
        }
#pragma unroll
        for (int half = 0; half < 2; half++) {
            // Reduces the maximum over the four lanes of a row. Every step has a key, so it is finite or NaN.
            higher[half] = fmaxf(higher[half], shuffle_xor(higher[half], 1));
            higher[half] = fmaxf(higher[half], shuffle_xor(higher[half], 2));
            float fade = exp2_fast((highest[half] - higher[half]) * scale);
            highest[half] = higher[half];
            higher[half] *= scale;
            total[half] *= fade;
#pragma unroll
            for (int part = 0; part < SIZE / 8; part++) context[part][2 * half] *= fade, context[part][2 * half + 1] *= fade;
        }
#pragma unroll
        for (int block = 0; block < TILE / 8; block++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                scores[block][i] = exp2_fast(fmaf(scores[block][i], scale, -higher[i / 2]));
                total[i / 2] += scores[block][i];
            }
        }
    }

    // Accumulates the weighted values. The score fragments have the layout of the weight fragments.
    template <bool FULL>
    DEVICE void add(const float (&weights)[TILE / 8][4], TileRows<T, SIZE> values, unsigned count, int lane) {
#pragma unroll
        for (int block = 0; block < TILE / 16; block++) {
            if (FULL || unsigned(block * 16) < count) {
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

// As FlashAttention: scores stay in registers, and the next keys and values are copied during computation. Shared
// memory holds five tiles (queries, two of keys, two of values). `scale` includes log2(e), since weights are computed
// by exp2.
template <class T, int SIZE>
DEVICE void flash(Heads<T> heads, const unsigned* offsets, const unsigned* tiles) {
    SHARED_MEMORY(memory);
    using Rows = TileRows<T, SIZE>;
    T* numbers = reinterpret_cast<T*>(memory);
    Rows query_tile{numbers};
    unsigned text = tiles[2 * blockIdx.x], first = tiles[2 * blockIdx.x + 1];
    unsigned start = offsets[text], length = offsets[text + 1] - start;
    unsigned asking = length - first < TILE ? length - first : TILE;
    size_t column = size_t(blockIdx.y) * SIZE;
    int warp_row = threadIdx.x / 32 * 16, lane = threadIdx.x % 32;
    auto tile = [&](unsigned step, int which) { return Rows{numbers + (1 + step % 2 * 2 + which) * Rows::NUMBERS}; };
    auto keys_in = [&](unsigned step) { return length - step * TILE < TILE ? length - step * TILE : TILE; };
    auto fetch = [&](unsigned step) {
        size_t from = size_t(start + step * TILE) * heads.key_stride + column;
        tile(step, 0).fetch(heads.keys + from, heads.key_stride, keys_in(step));
        tile(step, 1).fetch(heads.values + from, heads.key_stride, keys_in(step));
        copies_commit();
    };

    query_tile.fetch(heads.queries + size_t(start + first) * heads.query_stride + column, heads.query_stride, asking);
    fetch(0);
    Queries<T, SIZE> warp;
    unsigned steps = (length + TILE - 1) / TILE;
    bool has_queries = unsigned(warp_row) < asking;
    for (unsigned step = 0; step < steps; step++) {
        if (step + 1 < steps) {
            fetch(step + 1);
            copies_wait<1>();
        } else {
            copies_wait<0>();
        }
        sync_block();
        if (step == 0) warp.begin(query_tile, warp_row, lane);
        if (has_queries) {
            Rows keys = tile(step, 0), values = tile(step, 1);
            unsigned count = keys_in(step);
            if (count == TILE) warp.template attend<true>(keys, values, count, heads.scale, lane);
            else warp.template attend<false>(keys, values, count, heads.scale, lane);
        }
        // The next step's copies overwrite this tile.
        sync_block();
    }
    if (has_queries) {
        T* out = heads.out + size_t(start + first + warp_row) * heads.width + column;
        warp.write(out, heads.width, asking - warp_row, lane);
    }
}
