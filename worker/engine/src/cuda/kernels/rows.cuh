// Kernels that look at one row at a time: layer normalisation fused with what is added before it, activation, pooling.
// All sums are in f32, whatever the numbers in memory are.
#pragma once
#include "platform.cuh"

// Numbers of a row that a lane keeps in registers: rows of up to 32 * 8 * LANE_CHUNKS numbers need no shared memory.
constexpr int LANE_CHUNKS = 4;

// ---------------------------------------------------------------- layer normalisation, a warp per row

struct NormWeights {
    const float* weight;
    const float* shift;
    float eps;
};

// Rows of up to 1,024 numbers, by eights: everything stays in registers. `add(column, values)` fills eight numbers.
template <class T, class Add>
DEVICE void normalize_in_registers(Add add, T* out, NormWeights norm, unsigned width) {
    unsigned lane = threadIdx.x;
    float values[LANE_CHUNKS][8];
    float sum = 0;
#pragma unroll
    for (int chunk = 0; chunk < LANE_CHUNKS; chunk++) {
        unsigned column = (chunk * 32 + lane) * 8;
        if (column < width) {
            add(column, values[chunk]);
            for (int i = 0; i < 8; i++) sum += values[chunk][i];
        }
    }
    float mean = warp_sum(sum) / width;
    float squares = 0;
#pragma unroll
    for (int chunk = 0; chunk < LANE_CHUNKS; chunk++) {
        if ((chunk * 32 + lane) * 8 < width) {
            for (int i = 0; i < 8; i++) squares += (values[chunk][i] - mean) * (values[chunk][i] - mean);
        }
    }
    float scale = 1.0f / sqrtf(warp_sum(squares) / width + norm.eps);
#pragma unroll
    for (int chunk = 0; chunk < LANE_CHUNKS; chunk++) {
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
        normalize_in_registers(add, out, norm, width);
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

DEVICE float activated(float x, unsigned activation) {
    switch (activation) {
        case GELU_ERF: return 0.5f * x * (1.0f + erff(x * 0.70710678118654752f));
        case GELU_TANH: return 0.5f * x * (1.0f + tanhf(0.79788456080286536f * (x + 0.044715f * x * x * x)));
        case RELU: return x > 0.0f ? x : (x != x ? x : 0.0f);
        default: return x / (1.0f + expf(-x));
    }
}

template <int COUNT, class T>
DEVICE void activate_some(T* x, const float* bias, unsigned width, unsigned activation, size_t at) {
    float values[COUNT], bias_values[COUNT];
    load_numbers(x + at, values);
    load_numbers(bias + at % width, bias_values);
    for (int i = 0; i < COUNT; i++) values[i] = activated(values[i] + bias_values[i], activation);
    store_numbers(x + at, values);
}

// A thread per eight numbers, or per number where the width is no multiple of eight.
template <class T>
DEVICE void activate(T* x, const float* bias, unsigned rows, unsigned width, unsigned activation) {
    size_t count = size_t(rows) * width, thread = size_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (width % 8 == 0) {
        if (thread * 8 < count) activate_some<8>(x, bias, width, activation, thread * 8);
    } else if (thread < count) {
        activate_some<1>(x, bias, width, activation, thread);
    }
}

// ---------------------------------------------------------------- from tokens to texts

// Copies the first row of each text.
template <class T>
DEVICE void first_tokens(const T* x, const unsigned* offsets, T* out, unsigned width) {
    const T* from = x + size_t(offsets[blockIdx.x]) * width;
    for (unsigned column = threadIdx.x; column < width; column += blockDim.x) out[size_t(blockIdx.x) * width + column] = from[column];
}

enum Pooling : unsigned { MEAN = 1, MAX = 2, LAST = 3, ONLY = 4 };

// Pools the rows of each text into one of f32, in the order of the tokens. ONLY: each text has one row already.
template <class T>
DEVICE void pool(const T* x, const unsigned* offsets, float* out, unsigned width, unsigned pooling) {
    unsigned text = blockIdx.x;
    unsigned start = pooling == ONLY ? text : offsets[text], end = pooling == ONLY ? text + 1 : offsets[text + 1];
    if (pooling == LAST) start = end - 1;
    for (unsigned column = threadIdx.x; column < width; column += blockDim.x) {
        float pooled = widen(x[size_t(start) * width + column]);
        for (unsigned row = start + 1; row < end; row++) {
            float value = widen(x[size_t(row) * width + column]);
            // Written so that a NaN wins: a broken row must not look whole.
            if (pooling == MAX) pooled = (pooled > value || pooled != pooled) ? pooled : value;
            else pooled += value;
        }
        if (pooling == MEAN) pooled /= float(end - start);
        out[size_t(text) * width + column] = pooled;
    }
}
