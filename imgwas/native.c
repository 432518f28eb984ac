/* Counting and multiplying genotypes, compiled. Optional: NumPy does the same where this is not.
 *
 * Genotypes are 0, 1 or 2, and every column of the traits is a whole number of 24 bits times a
 * scale, cut into three digits of 8 bits. A product of bytes takes a quarter of the time of one in
 * single precision, so three of them take three quarters, and their sums are exact. Variants that
 * few people carry are added up person by person instead, to the same whole numbers.
 *
 * No Python in here: imgwas/native.py opens the library and imgwas/association/integers.py
 * describes the layouts. Every function trusts the sizes that it is given.
 */
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#define VECTOR __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")))
#define HAVE_VECTORS 1
#include <immintrin.h>
#else
#define HAVE_VECTORS 0
#endif

enum { ROWS = 6, TILE = 4, LANES = 16, QUADS = 1024, AHEAD = 4, VARIANTS = 384 };

/* What one product works on; the same fields, in the same order, as in integers.py. */
typedef struct {
    const uint8_t *coded;   /* (variants, bytes): two-bit codes, four people to a byte */
    int64_t n_variants;
    int64_t n_bytes;
    const uint8_t *panel;   /* digits, tile by tile: (quads, vectors of the tile, 16, 4) */
    int64_t n_vectors;      /* of 16 columns of digits each */
    int64_t n_columns;
    const int32_t *numbers; /* (people, columns): what the digits spell, in parts of 256 */
    const double *scale;    /* (columns): what such a part stands for */
    const int32_t *fine;    /* columns that have a fourth digit */
    int64_t n_fine;
    const double *filled;   /* (variants): what a missing call counts, or NULL for nothing */
    int64_t sparse_below;   /* a variant with fewer carriers is added up person by person */
    float *out;             /* (variants, columns) */
    int32_t *sums;          /* scratch: (384, 16 * n_vectors) */
    uint8_t *decoded;       /* scratch: (384, 4 * min(bytes, 1024)) */
    int64_t *dense;         /* scratch: (384) */
    double *gathered;       /* scratch: (2, columns) */
    int32_t *people;        /* scratch: (8 * bytes) */
} product_t;

int64_t imgwas_native_version(void) { return 2; }

#if HAVE_VECTORS

int imgwas_native_supported(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni");
}

static uint32_t copies_of_byte[256]; /* four counts of copies, one byte each */
static uint8_t total_of_byte[256];

__attribute__((constructor)) static void fill_tables(void) {
    static const uint8_t copies[4] = {2, 0, 1, 0};
    for (int byte = 0; byte < 256; byte++) {
        uint32_t four = 0;
        int total = 0;
        for (int person = 0; person < 4; person++) {
            uint8_t one = copies[byte >> (2 * person) & 3];
            four |= (uint32_t)one << (8 * person);
            total += one;
        }
        copies_of_byte[byte] = four;
        total_of_byte[byte] = (uint8_t)total;
    }
}

/* Add the products of 6 variants with the digits of one tile, over some quads of people. */
#define MULTIPLY(NAME, WIDTH)                                                                      \
    VECTOR static void NAME(const uint8_t *left, int64_t left_stride, const uint8_t *right,        \
                            int64_t quads, int32_t *sums, int64_t stride) {                        \
        __m512i total[ROWS][WIDTH];                                                                \
        _Pragma("GCC unroll 8") for (int i = 0; i < ROWS; i++)                                     \
            _Pragma("GCC unroll 8") for (int j = 0; j < WIDTH; j++)                                \
                total[i][j] = _mm512_loadu_si512(sums + i * stride + j * LANES);                   \
        for (int64_t quad = 0; quad < quads; quad++) {                                             \
            __m512i digits[WIDTH];                                                                 \
            _Pragma("GCC unroll 8") for (int j = 0; j < WIDTH; j++)                                \
                digits[j] = _mm512_loadu_si512(right + (quad * WIDTH + j) * 64);                   \
            _Pragma("GCC unroll 8") for (int i = 0; i < ROWS; i++) {                               \
                int32_t four;                                                                      \
                memcpy(&four, left + i * left_stride + quad * 4, 4);                               \
                __m512i copies = _mm512_set1_epi32(four);                                          \
                _Pragma("GCC unroll 8") for (int j = 0; j < WIDTH; j++)                            \
                    total[i][j] = _mm512_dpbusd_epi32(total[i][j], digits[j], copies);             \
            }                                                                                      \
        }                                                                                          \
        _Pragma("GCC unroll 8") for (int i = 0; i < ROWS; i++)                                     \
            _Pragma("GCC unroll 8") for (int j = 0; j < WIDTH; j++)                                \
                _mm512_storeu_si512(sums + i * stride + j * LANES, total[i][j]);                   \
    }

MULTIPLY(multiply_1, 1)
MULTIPLY(multiply_2, 2)
MULTIPLY(multiply_3, 3)
MULTIPLY(multiply_4, 4)

typedef void (*multiply_t)(const uint8_t *, int64_t, const uint8_t *, int64_t, int32_t *, int64_t);

static void decode(const uint8_t *coded, int64_t n, uint8_t *decoded) {
    for (int64_t byte = 0; byte < n; byte++)
        memcpy(decoded + 4 * byte, &copies_of_byte[coded[byte]], 4);
}

/* All variants of the dense list, tile by tile, into sums. */
VECTOR static void multiply_dense(const product_t *p, int64_t n_dense) {
    static const multiply_t multiply[TILE + 1] = {0, multiply_1, multiply_2, multiply_3,
                                                  multiply_4};
    int64_t stride = LANES * p->n_vectors;
    int64_t groups = (n_dense + ROWS - 1) / ROWS;
    memset(p->sums, 0, (size_t)(groups * ROWS * stride) * sizeof(int32_t));
    for (int64_t first = 0; first < p->n_bytes; first += QUADS) {
        int64_t quads = p->n_bytes - first < QUADS ? p->n_bytes - first : QUADS;
        for (int64_t i = 0; i < groups * ROWS; i++) {
            if (i < n_dense)
                decode(p->coded + p->dense[i] * p->n_bytes + first, quads,
                       p->decoded + i * 4 * quads);
            else
                memset(p->decoded + i * 4 * quads, 0, (size_t)(4 * quads));
        }
        for (int64_t vector = 0; vector < p->n_vectors; vector += TILE) {
            int64_t width = p->n_vectors - vector < TILE ? p->n_vectors - vector : TILE;
            const uint8_t *right = p->panel + 64 * (vector * p->n_bytes + first * width);
            for (int64_t group = 0; group < groups; group++)
                multiply[width](p->decoded + group * ROWS * 4 * quads, 4 * quads, right, quads,
                                p->sums + group * ROWS * stride + vector * LANES, stride);
        }
    }
}

/* Add the numbers of some people, whose rows lie anywhere: fetched some people ahead. */
VECTOR static void add_people(const product_t *p, int64_t n, double *total) {
    int64_t size = p->n_columns * (int64_t)sizeof(int32_t);
    for (int64_t i = 0; i < n; i++) {
        if (i + AHEAD < n) {
            const char *next = (const char *)(p->numbers + p->people[i + AHEAD] * p->n_columns);
            for (int64_t byte = 0; byte < size; byte += 64)
                __builtin_prefetch(next + byte);
        }
        const int32_t *numbers = p->numbers + p->people[i] * p->n_columns;
        int64_t c = 0;
        for (; c + 8 <= p->n_columns; c += 8) {
            __m512d some = _mm512_cvtepi32_pd(_mm256_loadu_si256((const void *)(numbers + c)));
            _mm512_storeu_pd(total + c, _mm512_add_pd(_mm512_loadu_pd(total + c), some));
        }
        for (; c < p->n_columns; c++)
            total[c] += numbers[c];
    }
}

/* Append the people of a byte whose low bit is set. */
static int64_t list_people(const product_t *p, int64_t n, int64_t byte, uint32_t low) {
    for (; low; low &= low - 1)
        p->people[n++] = (int32_t)(4 * byte + (__builtin_ctz(low) >> 1));
    return n;
}

static int64_t carriers(const uint8_t *coded, int64_t n) {
    int64_t found = 0, i = 0;
    for (; i + 8 <= n; i += 8) {
        uint64_t word;
        memcpy(&word, coded + i, 8);
        /* codes 00 and 10: the low bit is clear */
        found += __builtin_popcountll(~word & 0x5555555555555555ull);
    }
    for (; i < n; i++)
        found += __builtin_popcount(~(uint32_t)coded[i] & 0x55u);
    return found;
}

static int64_t copies(const uint8_t *coded, int64_t n) {
    int64_t found = 0;
    for (int64_t i = 0; i < n; i++)
        found += total_of_byte[coded[i]];
    return found;
}

/* Carriers one by one: once for a copy, twice for two. */
VECTOR static void add_carriers(const product_t *p, const uint8_t *coded, double *total) {
    int64_t n = 0;
    for (int64_t byte = 0; byte < p->n_bytes; byte++) {
        uint32_t code = coded[byte], any = ~code & 0x55u;
        if (any) {
            n = list_people(p, n, byte, any);
            n = list_people(p, n, byte, any & ~(code >> 1));
        }
    }
    add_people(p, n, total);
}

VECTOR static void add_missing(const product_t *p, const uint8_t *coded, double *total) {
    int64_t n = 0;
    for (int64_t byte = 0; byte < p->n_bytes; byte++) {
        uint32_t code = coded[byte], gone = code & ~(code >> 1) & 0x55u;
        if (gone)
            n = list_people(p, n, byte, gone);
    }
    add_people(p, n, total);
}

/* Whole numbers from the digits: all three are offset, so that a product of bytes may be unsigned.
 */
VECTOR static void join_digits(const product_t *p, const int32_t *sums, double offset,
                               double *total) {
    int64_t n = p->n_columns;
    for (int64_t c = 0; c < n; c++)
        total[c] = 256 * (sums[c] * 65536.0 + sums[n + c] * 256.0 + sums[2 * n + c] - offset);
    for (int64_t f = 0; f < p->n_fine; f++)
        total[p->fine[f]] += sums[3 * n + f];
}

VECTOR static void finish(const product_t *p, int64_t variant, double *total, double *missing) {
    const uint8_t *coded = p->coded + variant * p->n_bytes;
    float *out = p->out + variant * p->n_columns;
    if (p->filled && p->filled[variant] != 0.0) {
        memset(missing, 0, (size_t)p->n_columns * sizeof(double));
        add_missing(p, coded, missing);
        for (int64_t c = 0; c < p->n_columns; c++)
            total[c] += p->filled[variant] * missing[c];
    }
    for (int64_t c = 0; c < p->n_columns; c++)
        out[c] = (float)(total[c] * p->scale[c]);
}

/* Some variants, so few that their decoded calls and sums stay in the cache. */
VECTOR static void multiply_some(const product_t *p, int64_t first, int64_t last) {
    double *total = p->gathered, *missing = p->gathered + p->n_columns;
    int64_t n_dense = 0, stride = LANES * p->n_vectors;
    for (int64_t variant = first; variant < last; variant++) {
        const uint8_t *coded = p->coded + variant * p->n_bytes;
        if (carriers(coded, p->n_bytes) >= p->sparse_below) {
            p->dense[n_dense++] = variant;
            continue;
        }
        memset(total, 0, (size_t)p->n_columns * sizeof(double));
        add_carriers(p, coded, total);
        finish(p, variant, total, missing);
    }
    multiply_dense(p, n_dense);
    for (int64_t i = 0; i < n_dense; i++) {
        const uint8_t *coded = p->coded + p->dense[i] * p->n_bytes;
        join_digits(p, p->sums + i * stride, 8388608.0 * (double)copies(coded, p->n_bytes), total);
        finish(p, p->dense[i], total, missing);
    }
}

VECTOR void imgwas_native_product(const product_t *p) {
    for (int64_t first = 0; first < p->n_variants; first += VARIANTS) {
        int64_t last = first + VARIANTS;
        multiply_some(p, first, last < p->n_variants ? last : p->n_variants);
    }
}

/* People with the low bit, with the high bit and with both bits of their code set, by variant;
 * slots has the low bit of everyone who counts set, and is padded with zeros to whole words.
 */
__attribute__((target("popcnt"))) void imgwas_native_count(const uint8_t *coded, int64_t n_variants,
                                                           int64_t n_bytes, const uint8_t *slots,
                                                           int64_t *low, int64_t *high,
                                                           int64_t *both) {
    for (int64_t variant = 0; variant < n_variants; variant++) {
        int64_t n_low = 0, n_high = 0, n_both = 0;
        for (int64_t i = 0; i < n_bytes; i += 8) {
            uint64_t word = 0, counted;
            memcpy(&word, coded + variant * n_bytes + i, n_bytes - i < 8 ? n_bytes - i : 8);
            memcpy(&counted, slots + i, 8);
            uint64_t l = word & counted, h = word >> 1 & counted;
            n_low += __builtin_popcountll(l);
            n_high += __builtin_popcountll(h);
            n_both += __builtin_popcountll(l & h);
        }
        low[variant] = n_low;
        high[variant] = n_high;
        both[variant] = n_both;
    }
}

/* Add to out[q, person] the sums over some variants of weights[q, variant] times the person's
 * copies, where a missing call counts filled[variant] (0 where filled is NULL): four q, and the 64
 * people of 16 bytes, the last ones of a row perhaps fewer.
 */
VECTOR static inline void add_weighted(const uint8_t *coded, int64_t n_variants, int64_t n_bytes,
                                       const double *filled, const float *weights,
                                       int64_t weights_stride, int64_t some, float *out,
                                       int64_t out_stride) {
    const __m512i shifts = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28,
                                             30);
    __m512 total[4][4];
    __mmask16 there[4];
    for (int v = 0; v < 4; v++) {
        int64_t people = 4 * some - 16 * v;
        there[v] = people >= 16 ? (__mmask16)0xffff
                                : (__mmask16)((1u << (people > 0 ? people : 0)) - 1);
        for (int q = 0; q < 4; q++)
            total[q][v] = _mm512_maskz_loadu_ps(there[v], out + q * out_stride + 16 * v);
    }
    for (int64_t variant = 0; variant < n_variants; variant++) {
        __m128 values = _mm_setr_ps(2, filled ? (float)filled[variant] : 0, 1, 0);
        __m512 of_code = _mm512_broadcast_f32x4(values);
        uint32_t codes[4] = {0, 0, 0, 0}; /* of 16 people each */
        if (some == 16)
            memcpy(codes, coded + variant * n_bytes, 16);
        else
            memcpy(codes, coded + variant * n_bytes, (size_t)some);
        _Pragma("GCC unroll 4") for (int v = 0; v < 4; v++) {
            __m512i code = _mm512_srlv_epi32(_mm512_set1_epi32((int32_t)codes[v]), shifts);
            __m512 copies = _mm512_permutevar_ps(of_code, code); /* looks at two bits */
            _Pragma("GCC unroll 4") for (int q = 0; q < 4; q++) {
                __m512 weight = _mm512_set1_ps(weights[q * weights_stride + variant]);
                total[q][v] = _mm512_fmadd_ps(weight, copies, total[q][v]);
            }
        }
    }
    for (int v = 0; v < 4; v++)
        for (int q = 0; q < 4; q++)
            _mm512_mask_storeu_ps(out + q * out_stride + 16 * v, there[v], total[q][v]);
}

/* n_weights is divisible by 4; out is (n_weights, 4 * n_bytes). */
VECTOR void imgwas_native_weighted(const uint8_t *coded, int64_t n_variants, int64_t n_bytes,
                                   const double *filled, const float *weights, int64_t n_weights,
                                   float *out) {
    int64_t people = 4 * n_bytes;
    memset(out, 0, (size_t)(n_weights * people) * sizeof(float));
    for (int64_t first = 0; first < n_variants; first += 128) { /* so many stay in the cache */
        int64_t n = n_variants - first < 128 ? n_variants - first : 128;
        for (int64_t byte = 0; byte < n_bytes; byte += 16)
            for (int64_t q = 0; q < n_weights; q += 4)
                add_weighted(coded + first * n_bytes + byte, n, n_bytes,
                             filled ? filled + first : 0, weights + q * n_variants + first,
                             n_variants, n_bytes - byte < 16 ? n_bytes - byte : 16,
                             out + q * people + 4 * byte, people);
    }
}

/* t = r sqrt(dof / (1 - r^2)) with r = product * weight held below limit, in single precision;
 * largest takes the largest |t| of each variant. NaN stays NaN, and is no largest.
 */
VECTOR void imgwas_native_t(const float *product, int64_t n_variants, int64_t stride,
                            int64_t n_traits, const float *weight, float limit, float root_dof,
                            float *t, float *largest) {
    const __m512 one = _mm512_set1_ps(1), root = _mm512_set1_ps(root_dof);
    const __m512 high = _mm512_set1_ps(limit), low = _mm512_set1_ps(-limit);
    for (int64_t variant = 0; variant < n_variants; variant++) {
        const float *row = product + variant * stride;
        const __m512 scaled = _mm512_set1_ps(weight[variant]);
        float *out = t + variant * n_traits;
        __m512 most = _mm512_setzero_ps();
        for (int64_t k = 0; k < n_traits; k += LANES) {
            int64_t left = n_traits - k;
            __mmask16 there = left < LANES ? (__mmask16)((1u << left) - 1) : (__mmask16)0xffff;
            __m512 r = _mm512_mul_ps(_mm512_maskz_loadu_ps(there, row + k), scaled);
            r = _mm512_max_ps(low, _mm512_min_ps(high, r)); /* the second one where one is NaN */
            __m512 rest = _mm512_sqrt_ps(_mm512_sub_ps(one, _mm512_mul_ps(r, r)));
            __m512 found = _mm512_mul_ps(_mm512_div_ps(r, rest), root);
            _mm512_mask_storeu_ps(out + k, there, found);
            most = _mm512_mask_max_ps(most, there, _mm512_abs_ps(found), most);
        }
        largest[variant] = _mm512_reduce_max_ps(most);
    }
}

#else

int imgwas_native_supported(void) { return 0; }
void imgwas_native_product(const product_t *p) { (void)p; }

#endif
