// The entry points, by the names in kernels.rs. Arguments are pointers, 32-bit numbers and floats.
#include "attention.cuh"
#include "rows.cuh"

#define ATTENTION_ARGUMENTS(T)                                                                                              \
    const T *queries, const T *keys, const T *values, T *out, unsigned query_stride, unsigned key_stride, unsigned width,   \
        unsigned key_heads, float scale, unsigned before, unsigned after, const float *bias, unsigned bias_tokens,          \
        float unscale, const unsigned *offsets, const unsigned *tiles
#define ATTENTION_HEADS(T) \
    Heads<T> { queries, keys, values, out, query_stride, key_stride, width, key_heads, scale }

#define NORM_ARGUMENTS(which) const float *which##_weight, const float *which##_shift, float which##_eps, unsigned which##_centered
#define NORM(which) \
    NormWeights { which##_weight, which##_shift, which##_eps, which##_centered != 0 }

#define ROW_KERNELS(T)                                                                                                      \
    KERNEL_OF(128, embed_norm_##T)(const T* words, const T* positions, const unsigned* ids, const unsigned* places, T* out, \
                                  const float* weight, const float* shift, float eps, unsigned rows, unsigned width,        \
                                  unsigned in_memory) {                                                                     \
        embed_norm(words, positions, ids, places, out, NormWeights{weight, shift, eps, true}, rows, width, in_memory != 0);       \
    }                                                                                                                       \
    KERNEL_OF(128, add_norm_##T)(const T* x, const float* bias, const T* residual, T* out, const float* weight,             \
                                const float* shift, float eps, unsigned rows, unsigned width, unsigned in_memory) {         \
        add_norm(x, bias, residual, out, NormWeights{weight, shift, eps, true}, rows, width, in_memory != 0);                     \
    }                                                                                                                       \
    KERNEL_OF(128, activate_##T)(T* x, const float* bias, unsigned rows, unsigned width, unsigned activation) {             \
        activate(x, bias, rows, width, activation);                                                                         \
    }                                                                                                                       \
    KERNEL_OF(128, begin_sum_##T)(const T* words, const unsigned* ids, float* sum, T* out, NORM_ARGUMENTS(first),           \
                                  NORM_ARGUMENTS(second), unsigned rows, unsigned width, unsigned in_memory) {              \
        begin_sum(words, ids, sum, out, NORM(first), NORM(second), rows, width, in_memory != 0);                            \
    }                                                                                                                       \
    KERNEL_OF(128, add_to_sum_##T)(const T* x, const float* bias, float* sum, T* out, NORM_ARGUMENTS(first),                \
                                   NORM_ARGUMENTS(second), unsigned rows, unsigned width, unsigned in_memory) {             \
        add_to_sum(x, bias, sum, out, NORM(first), NORM(second), rows, width, in_memory != 0);                              \
    }                                                                                                                       \
    KERNEL_OF(128, rotate_##T)(T* x, unsigned stride, unsigned heads, unsigned pairs, const unsigned* positions,            \
                               const float* frequencies, const float* weight, float eps, unsigned rows) {                   \
        rotate(x, stride, heads, pairs, positions, frequencies, weight, eps, rows);                                         \
    }                                                                                                                       \
    KERNEL_OF(128, gate_##T)(const T* x, const float* bias, T* out, unsigned rows, unsigned width, unsigned activation) {   \
        gate(x, bias, out, rows, width, activation);                                                                        \
    }                                                                                                                       \
    KERNEL_OF(256, select_rows_##T)(const T* x, const unsigned* chosen, T* out, unsigned width) {                           \
        select_rows(x, chosen, out, width);                                                                                 \
    }                                                                                                                       \
    KERNEL_OF(256, pool_##T)(const T* x, const unsigned* offsets, float* out, unsigned width, unsigned pooling, unsigned left_out) { \
        pool(x, offsets, out, width, pooling, left_out);                                                                    \
    }                                                                                                                       \
    KERNEL_OF_BLOCKS(256, 4, attend_##T)(ATTENTION_ARGUMENTS(T), unsigned size, unsigned selection) {                                 \
        attend(ATTENTION_HEADS(T), Reach{before, after}, Bias{bias, bias_tokens, unscale}, offsets, tiles, size, selection); \
    }

#define FLASH_KERNEL(name, T, SIZE, WITHIN, BIASED)                                                                         \
    KERNEL_OF(FLASH_THREADS, name##_##T##_##SIZE)(ATTENTION_ARGUMENTS(T)) {                                                 \
        flash<T, SIZE, WITHIN, BIASED>(ATTENTION_HEADS(T), Reach{before, after}, Bias{bias, bias_tokens, unscale}, offsets,  \
                                       tiles);                                                                              \
    }

#define FLASH_KERNELS_OF(T, SIZE)                \
    FLASH_KERNEL(flash, T, SIZE, false, false)   \
    FLASH_KERNEL(flash_within, T, SIZE, true, false) \
    FLASH_KERNEL(flash_biased, T, SIZE, false, true)

// Beside heads of 256 there is no shared memory for a bias.
#define FLASH_KERNELS(T)                   \
    FLASH_KERNELS_OF(T, 16)                \
    FLASH_KERNELS_OF(T, 32)                \
    FLASH_KERNELS_OF(T, 48)                \
    FLASH_KERNELS_OF(T, 64)                \
    FLASH_KERNELS_OF(T, 80)                \
    FLASH_KERNELS_OF(T, 96)                \
    FLASH_KERNELS_OF(T, 128)               \
    FLASH_KERNEL(flash, T, 256, false, false) \
    FLASH_KERNEL(flash_within, T, 256, true, false)

using f32 = float;
ROW_KERNELS(f32)
ROW_KERNELS(f16)
ROW_KERNELS(bf16)
FLASH_KERNELS(f16)
FLASH_KERNELS(bf16)
