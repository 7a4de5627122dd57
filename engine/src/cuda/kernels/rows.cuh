// Kernels over single rows: layer norm fused with preceding additions, activation, pooling. All sums are f32.
#pragma once
#include "platform.cuh"

// ---------------------------------------------------------------- layer normalisation, a warp per row

// A layer norm, or where the rows are not `centered` one by the root mean square.
struct NormWeights {
    const float* weight;
    const float* shift;
    float eps;
    bool centered;
};

// A row of up to 256 * CHUNKS numbers in registers, by eights. Lanes beyond the end hold the first columns.
template <int CHUNKS>
struct RegisterRow {
    unsigned width;
    float values[CHUNKS][8];

    static DEVICE unsigned column(int chunk) { return (chunk * 32 + threadIdx.x) * 8; }

    // `from(column, values)` fills eight numbers. Issues all loads before using the first.
    template <class Source>
    DEVICE void load(Source from) {
#pragma unroll
        for (int chunk = 0; chunk < CHUNKS; chunk++) from(column(chunk) < width ? column(chunk) : 0, values[chunk]);
    }

    DEVICE void normalize(NormWeights norm) {
        float sum = 0;
#pragma unroll
        for (int chunk = 0; chunk < CHUNKS; chunk++) {
            if (norm.centered && column(chunk) < width) {
                for (int i = 0; i < 8; i++) sum += values[chunk][i];
            }
        }
        float mean = norm.centered ? warp_sum(sum) / width : 0.0f;
        float squares = 0;
#pragma unroll
        for (int chunk = 0; chunk < CHUNKS; chunk++) {
            if (column(chunk) < width) {
                for (int i = 0; i < 8; i++) squares += (values[chunk][i] - mean) * (values[chunk][i] - mean);
            }
        }
        float scale = 1.0f / sqrtf(warp_sum(squares) / width + norm.eps);
#pragma unroll
        for (int chunk = 0; chunk < CHUNKS; chunk++) {
            if (column(chunk) < width) {
                float weight[8], shift[8];
                load_numbers(norm.weight + column(chunk), weight);
                load_numbers(norm.shift + column(chunk), shift);
                for (int i = 0; i < 8; i++) values[chunk][i] = (values[chunk][i] - mean) * scale * weight[i] + shift[i];
            }
        }
    }

    DEVICE void add(const float* other) {
#pragma unroll
        for (int chunk = 0; chunk < CHUNKS; chunk++) {
            float others[8];
            load_numbers(other + (column(chunk) < width ? column(chunk) : 0), others);
            for (int i = 0; i < 8; i++) values[chunk][i] += others[i];
        }
    }

    template <class T>
    DEVICE void store(T* out) const {
#pragma unroll
        for (int chunk = 0; chunk < CHUNKS; chunk++)
            if (column(chunk) < width) store_numbers(out + column(chunk), values[chunk]);
    }
};

// A row of any width in shared memory; each lane reads only what it wrote itself.
struct MemoryRow {
    unsigned width;
    float* row;

    template <class Source>
    DEVICE void load(Source from) const {
        for (unsigned column = threadIdx.x; column < width; column += 32) {
            float value[1];
            from(column, value);
            row[column] = value[0];
        }
    }

    DEVICE void normalize(NormWeights norm) const {
        unsigned lane = threadIdx.x;
        float sum = 0;
        for (unsigned column = lane; norm.centered && column < width; column += 32) sum += row[column];
        float mean = norm.centered ? warp_sum(sum) / width : 0.0f;
        float squares = 0;
        for (unsigned column = lane; column < width; column += 32) squares += (row[column] - mean) * (row[column] - mean);
        float scale = 1.0f / sqrtf(warp_sum(squares) / width + norm.eps);
        for (unsigned column = lane; column < width; column += 32)
            row[column] = (row[column] - mean) * scale * norm.weight[column] + norm.shift[column];
    }

    DEVICE void add(const float* other) const {
        for (unsigned column = threadIdx.x; column < width; column += 32) row[column] += other[column];
    }

    template <class T>
    DEVICE void store(T* out) const {
        for (unsigned column = threadIdx.x; column < width; column += 32) narrow(row[column], out[column]);
    }
};

template <class T>
struct Word {
    const T* word;
    template <int COUNT>
    DEVICE void operator()(unsigned column, float (&out)[COUNT]) const { load_numbers(word + column, out); }
};

template <class T>
struct WordAndPosition {
    const T* word;
    const T* position;
    template <int COUNT>
    DEVICE void operator()(unsigned column, float (&out)[COUNT]) const {
        float position_values[COUNT];
        load_numbers(word + column, out);
        load_numbers(position + column, position_values);
        for (int i = 0; i < COUNT; i++) out[i] += position_values[i];
    }
};

template <class T>
struct OutputAndBias {
    const T* output;
    const float* bias;
    template <int COUNT>
    DEVICE void operator()(unsigned column, float (&out)[COUNT]) const {
        float bias_values[COUNT];
        load_numbers(output + column, out);
        load_numbers(bias + column, bias_values);
        for (int i = 0; i < COUNT; i++) out[i] += bias_values[i];
    }
};

template <class T>
struct OutputAndResidual {
    const T* output;
    const float* bias;
    const T* residual;
    template <int COUNT>
    DEVICE void operator()(unsigned column, float (&out)[COUNT]) const {
        float bias_values[COUNT], residual_values[COUNT];
        load_numbers(output + column, out);
        load_numbers(bias + column, bias_values);
        load_numbers(residual + column, residual_values);
        for (int i = 0; i < COUNT; i++) out[i] = out[i] + bias_values[i] + residual_values[i];
    }
};

// Calls `work` with a row. The block is (32, rows per block). Without shared memory the width must be a multiple of 8, at most
// 1,024.
template <class Work>
DEVICE void with_row(unsigned width, bool in_memory, Work work) {
    SHARED_MEMORY(memory);
    if (in_memory) return work(MemoryRow{width, reinterpret_cast<float*>(memory) + threadIdx.y * width});
    switch ((width + 255) / 256) {
        case 1: return work(RegisterRow<1>{width});
        case 2: return work(RegisterRow<2>{width});
        case 3: return work(RegisterRow<3>{width});
        default: return work(RegisterRow<4>{width});
    }
}

template <class T, class Source>
DEVICE void normalize_row(Source from, T* out, NormWeights norm, unsigned width, bool in_memory) {
    with_row(width, in_memory, [&](auto row) {
        row.load(from);
        row.normalize(norm);
        row.store(out);
    });
}

template <class T>
DEVICE void embed_norm(const T* words, const T* positions, const unsigned* ids, const unsigned* places, T* out,
                       NormWeights norm, unsigned rows, unsigned width, bool in_memory) {
    size_t row = size_t(blockIdx.x) * blockDim.y + threadIdx.y;
    if (row >= rows) return;
    WordAndPosition<T> from{words + size_t(ids[row]) * width, positions + size_t(places[row]) * width};
    normalize_row(from, out + row * width, norm, width, in_memory);
}

template <class T>
DEVICE void add_norm(const T* x, const float* bias, const T* residual, T* out, NormWeights norm, unsigned rows,
                     unsigned width, bool in_memory) {
    size_t row = size_t(blockIdx.x) * blockDim.y + threadIdx.y;
    if (row >= rows) return;
    OutputAndResidual<T> from{x + row * width, bias, residual + row * width};
    normalize_row(from, out + row * width, norm, width, in_memory);
}

// ---------------------------------------------------------------- sums in f32, for models that normalise before each half

// Adds a row to the sum, or begins it, and writes what the next half reads. Norms without weights are left out: that of
// what is added, and that of the sum.
template <bool BEGIN, class T, class Source>
DEVICE void sum_row(Source from, float* sum, T* out, NormWeights of_added, NormWeights of_sum, unsigned width, bool in_memory) {
    with_row(width, in_memory, [&](auto row) {
        row.load(from);
        if (of_added.weight) row.normalize(of_added);
        if (!BEGIN) row.add(sum);
        row.store(sum);
        if (of_sum.weight) row.normalize(of_sum);
        row.store(out);
    });
}

template <class T>
DEVICE void begin_sum(const T* words, const unsigned* ids, float* sum, T* out, NormWeights of_words, NormWeights of_sum,
                      unsigned rows, unsigned width, bool in_memory) {
    size_t row = size_t(blockIdx.x) * blockDim.y + threadIdx.y;
    if (row >= rows) return;
    Word<T> from{words + size_t(ids[row]) * width};
    sum_row<true>(from, sum + row * width, out + row * width, of_words, of_sum, width, in_memory);
}

template <class T>
DEVICE void add_to_sum(const T* x, const float* bias, float* sum, T* out, NormWeights of_added, NormWeights of_sum,
                       unsigned rows, unsigned width, bool in_memory) {
    size_t row = size_t(blockIdx.x) * blockDim.y + threadIdx.y;
    if (row >= rows) return;
    OutputAndBias<T> from{x + row * width, bias};
    sum_row<false>(from, sum + row * width, out + row * width, of_added, of_sum, width, in_memory);
}

// ---------------------------------------------------------------- rotary positions, in place

constexpr int LANE_PAIRS = 4;

// Normalises each of a row's heads by its root mean square, if there is a `weight`, and rotates its pairs, which are the
// components i and i + pairs, by the row's position times a frequency. A warp per row, heads of up to 256.
template <class T>
DEVICE void rotate(T* x, unsigned stride, unsigned heads, unsigned pairs, const unsigned* positions, const float* frequencies,
                   const float* weight, float eps, unsigned rows) {
    size_t row = size_t(blockIdx.x) * blockDim.y + threadIdx.y;
    if (row >= rows) return;
    unsigned lane = threadIdx.x;
    float sines[LANE_PAIRS], cosines[LANE_PAIRS];
#pragma unroll
    for (int part = 0; part < LANE_PAIRS; part++) {
        unsigned pair = part * 32 + lane;
        if (pair < pairs) sincosf(float(positions[row]) * frequencies[pair], &sines[part], &cosines[part]);
    }
    T* head = x + row * stride;
    for (unsigned index = 0; index < heads; index++, head += 2 * pairs) {
        float low[LANE_PAIRS], high[LANE_PAIRS], squares = 0;
#pragma unroll
        for (int part = 0; part < LANE_PAIRS; part++) {
            unsigned pair = part * 32 + lane;
            low[part] = pair < pairs ? widen(head[pair]) : 0.0f;
            high[part] = pair < pairs ? widen(head[pairs + pair]) : 0.0f;
            squares += low[part] * low[part] + high[part] * high[part];
        }
        float scale = weight ? 1.0f / sqrtf(warp_sum(squares) / (2 * pairs) + eps) : 1.0f;
#pragma unroll
        for (int part = 0; part < LANE_PAIRS; part++) {
            unsigned pair = part * 32 + lane;
            if (pair < pairs) {
                if (weight) low[part] *= scale * weight[pair], high[part] *= scale * weight[pairs + pair];
                narrow(low[part] * cosines[part] - high[part] * sines[part], head[pair]);
                narrow(high[part] * cosines[part] + low[part] * sines[part], head[pairs + pair]);
            }
        }
    }
}

// ---------------------------------------------------------------- bias and activation, in place

enum Activation : unsigned { GELU_ERF = 0, GELU_TANH = 1, RELU = 2, SILU = 3 };

// x * Φ(x) by erf.
DEVICE float gelu(float x, float) { return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f)); }

// For 16-bit results, Φ as the logistic function of a polynomial: error up to 2.6e-5, half a step of f16 from 0.05 on,
// and twice as fast where the numbers are small.
template <class T>
DEVICE float gelu(float x, T) {
    float square = fminf(x * x, 50.0f);
    float exponent = -x * fmaf(square, fmaf(square, -0.0010164813f, 0.10678937f), 2.3011063f);
    return x * reciprocal_fast(1.0f + exp2_fast(exponent));
}

template <unsigned ACTIVATION, class T>
DEVICE float activated(float x) {
    switch (ACTIVATION) {
        case GELU_ERF: return gelu(x, T());
        case GELU_TANH: return 0.5f * x * (1.0f + tanhf(0.79788456080286536f * (x + 0.044715f * x * x * x)));
        case RELU: return x > 0.0f ? x : (x != x ? x : 0.0f);
        default: return x / (1.0f + expf(-x));
    }
}

// A thread keeps its columns and their bias, and processes every `gridDim.y`th row.
template <int COUNT, unsigned ACTIVATION, class T>
DEVICE void activate_columns(T* x, const float* bias, unsigned rows, unsigned width) {
    unsigned column = (blockIdx.x * blockDim.x + threadIdx.x) * COUNT;
    if (column >= width) return;
    float values[COUNT], bias_values[COUNT];
    load_numbers(bias + column, bias_values);
    for (unsigned row = blockIdx.y; row < rows; row += gridDim.y) {
        T* at = x + size_t(row) * width + column;
        load_numbers(at, values);
        for (int i = 0; i < COUNT; i++) values[i] = activated<ACTIVATION, T>(values[i] + bias_values[i]);
        store_numbers(at, values);
    }
}

// A thread per eight columns, or per column where the width is no multiple of eight.
template <unsigned ACTIVATION, class T>
DEVICE void activate_by(T* x, const float* bias, unsigned rows, unsigned width) {
    if (width % 8 == 0) activate_columns<8, ACTIVATION>(x, bias, rows, width);
    else activate_columns<1, ACTIVATION>(x, bias, rows, width);
}

template <class T>
DEVICE void activate(T* x, const float* bias, unsigned rows, unsigned width, unsigned activation) {
    switch (activation) {
        case GELU_ERF: return activate_by<GELU_ERF>(x, bias, rows, width);
        case GELU_TANH: return activate_by<GELU_TANH>(x, bias, rows, width);
        case RELU: return activate_by<RELU>(x, bias, rows, width);
        default: return activate_by<SILU>(x, bias, rows, width);
    }
}

// A row holds a gate, then what it multiplies: out = activation(gate + bias) * (other + bias).
template <int COUNT, unsigned ACTIVATION, class T>
DEVICE void gate_columns(const T* x, const float* bias, T* out, unsigned rows, unsigned width) {
    unsigned column = (blockIdx.x * blockDim.x + threadIdx.x) * COUNT;
    if (column >= width) return;
    float gates[COUNT], others[COUNT], gate_bias[COUNT], other_bias[COUNT];
    load_numbers(bias + column, gate_bias);
    load_numbers(bias + width + column, other_bias);
    for (unsigned row = blockIdx.y; row < rows; row += gridDim.y) {
        const T* from = x + size_t(row) * 2 * width + column;
        load_numbers(from, gates);
        load_numbers(from + width, others);
        for (int i = 0; i < COUNT; i++) gates[i] = activated<ACTIVATION, T>(gates[i] + gate_bias[i]) * (others[i] + other_bias[i]);
        store_numbers(out + size_t(row) * width + column, gates);
    }
}

template <unsigned ACTIVATION, class T>
DEVICE void gate_by(const T* x, const float* bias, T* out, unsigned rows, unsigned width) {
    if (width % 8 == 0) gate_columns<8, ACTIVATION>(x, bias, out, rows, width);
    else gate_columns<1, ACTIVATION>(x, bias, out, rows, width);
}

template <class T>
DEVICE void gate(const T* x, const float* bias, T* out, unsigned rows, unsigned width, unsigned activation) {
    switch (activation) {
        case GELU_ERF: return gate_by<GELU_ERF>(x, bias, out, rows, width);
        case GELU_TANH: return gate_by<GELU_TANH>(x, bias, out, rows, width);
        case RELU: return gate_by<RELU>(x, bias, out, rows, width);
        default: return gate_by<SILU>(x, bias, out, rows, width);
    }
}

// ---------------------------------------------------------------- pooling

// Copies the rows that `chosen` lists, one per block.
template <class T>
DEVICE void select_rows(const T* x, const unsigned* chosen, T* out, unsigned width) {
    const T* from = x + size_t(chosen[blockIdx.x]) * width;
    for (unsigned column = threadIdx.x; column < width; column += blockDim.x) out[size_t(blockIdx.x) * width + column] = from[column];
}

enum Pooling : unsigned { MEAN = 1, MAX = 2, LAST = 3, ONLY = 4, FIRST = 5, MEAN_SQRT_LEN = 6, WEIGHTED_MEAN = 7 };

// Pools the rows of each text except for its first `left_out`, in token order, to f32. ONLY: each text has one row.
// Without rows the result is that of sentence-transformers: zeros, no maximum, or the first row.
template <class T>
DEVICE void pool(const T* x, const unsigned* offsets, float* out, unsigned width, unsigned pooling, unsigned left_out) {
    unsigned text = blockIdx.x;
    unsigned start = pooling == ONLY ? text : offsets[text], end = pooling == ONLY ? text + 1 : offsets[text + 1];
    bool empty = end - start <= left_out;
    if (!empty) start += left_out;
    if (empty && pooling != FIRST) {
        float nothing = pooling == MAX ? MINUS_INFINITY : 0.0f;
        for (unsigned column = threadIdx.x; column < width; column += blockDim.x) out[size_t(text) * width + column] = nothing;
        return;
    }
    if (pooling == LAST) start = end - 1;
    if (pooling == FIRST) end = start + 1;
    for (unsigned column = threadIdx.x; column < width; column += blockDim.x) {
        // Tokens after the first `left_out` keep the weights of their positions in the whole text.
        float weight = pooling == WEIGHTED_MEAN ? float(left_out + 1) : 1.0f, weights = weight;
        float pooled = widen(x[size_t(start) * width + column]) * weight;
        for (unsigned row = start + 1; row < end; row++) {
            float value = widen(x[size_t(row) * width + column]);
            // Propagates NaN, so that a broken row stays visible.
            if (pooling == MAX) pooled = (pooled > value || pooled != pooled) ? pooled : value;
            else if (pooling == WEIGHTED_MEAN) weights += weight += 1, pooled += value * weight;
            else pooled += value;
        }
        if (pooling == MEAN) pooled /= float(end - start);
        if (pooling == MEAN_SQRT_LEN) pooled /= sqrtf(float(end - start));
        if (pooling == WEIGHTED_MEAN) pooled /= weights;
        out[size_t(text) * width + column] = pooled;
    }
}
