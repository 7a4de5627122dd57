// Kernels over single rows: layer norm fused with preceding additions, activation, pooling. All sums are f32.
#pragma once
#include "platform.cuh"

// ---------------------------------------------------------------- layer normalisation, a warp per row

struct NormWeights {
    const float* weight;
    const float* shift;
    float eps;
};

// Rows of up to 256 * CHUNKS numbers in registers, by eights. `add(column, values)` fills eight numbers.
template <int CHUNKS, class T, class Add>
DEVICE void normalize_in_registers(Add add, T* out, NormWeights norm, unsigned width) {
    unsigned lane = threadIdx.x;
    float values[CHUNKS][8];
    // Issues all loads before using the first; lanes beyond the end read the first column.
#pragma unroll
    for (int chunk = 0; chunk < CHUNKS; chunk++) {
        unsigned column = (chunk * 32 + lane) * 8;
        add(column < width ? column : 0, values[chunk]);
    }
    float sum = 0;
#pragma unroll
    for (int chunk = 0; chunk < CHUNKS; chunk++) {
        if ((chunk * 32 + lane) * 8 < width) {
            for (int i = 0; i < 8; i++) sum += values[chunk][i];
        }
    }
    float mean = warp_sum(sum) / width;
    float squares = 0;
#pragma unroll
    for (int chunk = 0; chunk < CHUNKS; chunk++) {
        if ((chunk * 32 + lane) * 8 < width) {
            for (int i = 0; i < 8; i++) squares += (values[chunk][i] - mean) * (values[chunk][i] - mean);
        }
    }
    float scale = 1.0f / sqrtf(warp_sum(squares) / width + norm.eps);
#pragma unroll
    for (int chunk = 0; chunk < CHUNKS; chunk++) {
        unsigned column = (chunk * 32 + lane) * 8;
        if (column < width) {
            float weight[8], shift[8];
            load_numbers(norm.weight + column, weight);
            load_numbers(norm.shift + column, shift);
            for (int i = 0; i < 8; i++) values[chunk][i] = (values[chunk][i] - mean) * scale * weight[i] + shift[i];
            store_numbers(out + column, values[chunk]);
        }
    }
}

// Rows of any width. `row` is shared memory for one row; each lane reads only what it wrote itself.
template <class T, class Add>
DEVICE void normalize_in_memory(Add add, T* out, NormWeights norm, unsigned width, float* row) {
    unsigned lane = threadIdx.x;
    float sum = 0;
    for (unsigned column = lane; column < width; column += 32) {
        float value[1];
        add(column, value);
        row[column] = value[0];
        sum += value[0];
    }
    float mean = warp_sum(sum) / width;
    float squares = 0;
    for (unsigned column = lane; column < width; column += 32) squares += (row[column] - mean) * (row[column] - mean);
    float scale = 1.0f / sqrtf(warp_sum(squares) / width + norm.eps);
    for (unsigned column = lane; column < width; column += 32)
        narrow((row[column] - mean) * scale * norm.weight[column] + norm.shift[column], out[column]);
}

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

// The block is (32, rows per block). Without shared memory the width must be a multiple of 8, at most 1,024.
template <class T, class Add>
DEVICE void normalize_row(Add add, T* out, NormWeights norm, unsigned width, bool in_memory) {
    SHARED_MEMORY(memory);
    if (in_memory) {
        normalize_in_memory(add, out, norm, width, reinterpret_cast<float*>(memory) + threadIdx.y * width);
    } else {
        switch ((width + 255) / 256) {
            case 1: return normalize_in_registers<1>(add, out, norm, width);
            case 2: return normalize_in_registers<2>(add, out, norm, width);
            case 3: return normalize_in_registers<3>(add, out, norm, width);
            default: return normalize_in_registers<4>(add, out, norm, width);
        }
    }
}

template <class T>
DEVICE void embed_norm(const T* words, const T* positions, const unsigned* ids, const unsigned* places, T* out,
                       NormWeights norm, unsigned rows, unsigned width, bool in_memory) {
    size_t row = size_t(blockIdx.x) * blockDim.y + threadIdx.y;
    if (row >= rows) return;
    WordAndPosition<T> add{words + size_t(ids[row]) * width, positions + size_t(places[row]) * width};
    normalize_row(add, out + row * width, norm, width, in_memory);
}

template <class T>
DEVICE void add_norm(const T* x, const float* bias, const T* residual, T* out, NormWeights norm, unsigned rows,
                     unsigned width, bool in_memory) {
    size_t row = size_t(blockIdx.x) * blockDim.y + threadIdx.y;
    if (row >= rows) return;
    OutputAndResidual<T> add{x + row * width, bias, residual + row * width};
    normalize_row(add, out + row * width, norm, width, in_memory);
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

// ---------------------------------------------------------------- pooling

// Copies the first row of each text.
template <class T>
DEVICE void first_tokens(const T* x, const unsigned* offsets, T* out, unsigned width) {
    const T* from = x + size_t(offsets[blockIdx.x]) * width;
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
