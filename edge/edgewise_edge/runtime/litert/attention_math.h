/* Attention over float16 caches: of a single token to a block of rows, and of a block of tokens.

   Portable C with the vector extensions of gcc and clang. Rows are read once, in blocks of BLOCK, with
   an online softmax (Milakov and Gimelshein, https://arxiv.org/abs/1805.02867).

   Widened, 16 numbers of a row become two vectors: the eight even ones, and the eight odd ones. Queries
   are kept in that order, too, and what was attended is put in order again at the end. */

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* One version for old processors and one for those with AVX2 and FMA, chosen when it is loaded. */
#if defined(__x86_64__) && defined(__GLIBC__) && !defined(__clang__)
#define MANY static __attribute__((target_clones("default", "arch=x86-64-v3")))
#elif defined(__x86_64__) && defined(__GLIBC__)
#define MANY static __attribute__((target_clones("default", "avx2")))
#else
#define MANY static
#endif
#define INLINE static inline __attribute__((always_inline))

enum { BLOCK = 64 };
#define LEAST -1e30f /* below any score */

typedef float Vector __attribute__((vector_size(32), may_alias));
typedef float Half __attribute__((vector_size(16), may_alias)); /* of a Vector */
typedef int32_t Integers __attribute__((vector_size(32)));
typedef int32_t Pairs __attribute__((vector_size(32), aligned(2), may_alias));

typedef struct {
  const float *qkv;           /* [tokens][query, key and value][width] */
  uint16_t *keys, *values;    /* [rows of the cache][width] */
  const int32_t *positions;   /* [tokens], ascending */
  float *attended;            /* [tokens][width] */
  int tokens, heads, size, width;
} Job;

/* A thread's own memory. For a single token, `most`, `total` and `attended` are by head, of the rows
   that the thread has seen; for many, they are by token, of one head and BLOCK tokens. */
enum { PARTS = 6 };
typedef struct {
  float *most, *total, *attended, *weights, *query, *rows;
} Scratch;

/* Widening leaves a number's exponent as it was: it has to be multiplied with SCALE, as queries and
   what was attended are. Weights are LIFTed, lest products with such numbers become too small. */
#define SCALE 0x1p112f
#define LIFT 0x1p96f

/* Have the processor fetch a line of the cache some rows ahead: by itself, it does so too late. */
INLINE void fetch(const uint16_t *row, int d, int ahead) {
  if (d % 32 == 0) __builtin_prefetch(row + d + ahead);
}

INLINE void widen(const uint16_t *row, Vector *even, Vector *odd) {
  const Integers pairs = *(const Pairs *)row;
  *even = (Vector)((pairs << 16 >> 3) & (int32_t)0x8fffe000);
  *odd = (Vector)((pairs >> 3) & (int32_t)0x8fffe000);
}

INLINE uint16_t narrowed(float x) { /* to the nearest, ties to even; at most the largest float16 */
  uint32_t bits;
  x *= 1 / SCALE;
  memcpy(&bits, &x, sizeof bits);
  const uint32_t sign = bits >> 16 & 0x8000, size = bits & 0x7fffffff;
  const uint32_t rounded = (size + 0xfff + (size >> 13 & 1)) >> 13;
  return (uint16_t)(sign | (rounded < 0x7bff ? rounded : 0x7bff));
}

INLINE Vector larger(Vector a, Vector b) {
  const Integers chosen = a > b;
  return (Vector)(((Integers)a & chosen) | ((Integers)b & ~chosen));
}

INLINE Vector exponential(Vector x) { /* of at most 0, LIFTed; relative error below 1e-6 */
  x = larger(x, (Vector){} - 87.0f);
  const Vector shifted = x * 1.44269504f + 0x1.8p23f, power = shifted - 0x1.8p23f;
  const Vector rest = (x - power * 0.693359375f) + power * 2.12194440e-4f;
  Vector y = rest * 1.98756915e-4f + 1.3981999507e-3f;
  y = (y * rest + 8.3334519073e-3f) * rest + 4.1665795894e-2f;
  y = (y * rest + 1.6666665459e-1f) * rest + 5.0000001201e-1f;
  y = y * rest * rest + rest + 1.0f;
  return (Vector)((Integers)y + ((Integers)shifted << 23)) * LIFT;
}

INLINE Half folded(Vector x) {
  return __builtin_shufflevector(x, x, 0, 1, 2, 3) + __builtin_shufflevector(x, x, 4, 5, 6, 7);
}

INLINE Half sums(const Vector x[4]) {
  const Half a = folded(x[0]), b = folded(x[1]), c = folded(x[2]), d = folded(x[3]);
  const Half ab = __builtin_shufflevector(a, b, 0, 4, 1, 5) + __builtin_shufflevector(a, b, 2, 6, 3, 7);
  const Half cd = __builtin_shufflevector(c, d, 0, 4, 1, 5) + __builtin_shufflevector(c, d, 2, 6, 3, 7);
  return __builtin_shufflevector(ab, cd, 0, 1, 4, 5) + __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
}

MANY void write_rows(const Job *job) {
  for (int token = 0; token < job->tokens; token++) {
    const float *key = job->qkv + (size_t)(3 * token + 1) * job->width, *value = key + job->width;
    const size_t row = (size_t)job->positions[token] * job->width;
    for (int d = 0; d < job->width; d++) job->keys[row + d] = narrowed(key[d]);
    for (int d = 0; d < job->width; d++) job->values[row + d] = narrowed(value[d]);
  }
}

/* ---- A single token and a block of rows, for all heads: rows are read as they lie. ---- */

/* Four rows from `row` on; past the last one, that again. */
INLINE void four_rows(const uint16_t *rows, int width, int row, int end, const uint16_t *four[4]) {
  for (int i = 0; i < 4; i++) four[i] = rows + (size_t)(row + i < end ? row + i : end - 1) * width;
}

INLINE void score_rows(const Job *job, const float *query, int first, int end, float *scores) {
  const uint16_t *four[4];
  for (int row = first; row < end; row += 4) {
    four_rows(job->keys, job->width, row, end, four);
    for (int head = 0; head < job->heads; head++) {
      Vector products[4] = {};
      for (int d = head * job->size; d < (head + 1) * job->size; d += 16)
        for (int i = 0; i < 4; i++) {
          Vector even, odd;
          fetch(four[i], d, 8 * job->width);
          widen(four[i] + d, &even, &odd);
          products[i] += even * *(const Vector *)(query + d);
          products[i] += odd * *(const Vector *)(query + d + 8);
        }
      *(Half *)(scores + head * BLOCK + row - first) = sums(products);
    }
  }
}

/* Turn a head's scores into weights; what was attended before comes to the same scale. */
INLINE void weigh_rows(const Job *job, int head, int count, Scratch *own) {
  float *weights = own->weights + head * BLOCK, most = own->most[head], total = 0;
  for (int row = 0; row < count; row++) most = weights[row] > most ? weights[row] : most;
  for (int row = count; row < BLOCK; row++) weights[row] = LEAST;
  Vector sum = {};
  for (int row = 0; row < BLOCK; row += 8)
    sum += *(Vector *)(weights + row) = exponential(*(Vector *)(weights + row) - most);
  for (int i = 0; i < 8; i++) total += sum[i];
  const float kept = expf(own->most[head] - most);
  own->most[head] = most;
  own->total[head] = own->total[head] * kept + total;
  for (int d = head * job->size; d < (head + 1) * job->size; d += 8)
    *(Vector *)(own->attended + d) *= kept;
}

/* `query` is in the order of widened numbers. */
MANY void attend_to_rows(const Job *job, const float *query, int first, int end, Scratch *own) {
  const uint16_t *four[4];
  score_rows(job, query, first, end, own->weights);
  for (int head = 0; head < job->heads; head++) weigh_rows(job, head, end - first, own);
  for (int row = first; row < end; row += 4) {
    four_rows(job->values, job->width, row, end, four); /* past the end, weights are next to zero */
    for (int head = 0; head < job->heads; head++) {
      const float *weights = own->weights + head * BLOCK + row - first;
      for (int d = head * job->size; d < (head + 1) * job->size; d += 16) {
        Vector *attended = (Vector *)(own->attended + d), even, odd;
        for (int i = 0; i < 4; i++) {
          fetch(four[i], d, 8 * job->width);
          widen(four[i] + d, &even, &odd);
          attended[0] += even * weights[i];
          attended[1] += odd * weights[i];
        }
      }
    }
  }
}

/* ---- A block of tokens and all rows, for one head: rows are widened once for all tokens. ---- */

/* out[rows][columns] += left * right, where left[row, k] is at left[row * across + k * along]. Rows
   are done by 4 and columns by 16, so there must be memory for as many. */
INLINE void add_product(float *out, int out_width, const float *left, int across, int along,
                        const float *right, int right_width, int rows, int columns, int depth) {
  for (int row = 0; row < rows; row += 4)
    for (int column = 0; column < columns; column += 16) {
      Vector sum[4][2];
      for (int i = 0; i < 4; i++)
        for (int j = 0; j < 2; j++)
          sum[i][j] = *(Vector *)(out + (row + i) * out_width + column + 8 * j);
      for (int k = 0; k < depth; k++) {
        const Vector *with = (const Vector *)(right + k * right_width + column);
        for (int i = 0; i < 4; i++)
          for (int j = 0; j < 2; j++) sum[i][j] += left[(row + i) * across + k * along] * with[j];
      }
      for (int i = 0; i < 4; i++)
        for (int j = 0; j < 2; j++)
          *(Vector *)(out + (row + i) * out_width + column + 8 * j) = sum[i][j];
    }
}

INLINE void widen_rows(const Job *job, const uint16_t *from, int head, int first, int end, float *to) {
  for (int row = first; row < end; row++)
    for (int d = 0; d < job->size; d += 16) {
      const uint16_t *numbers = from + (size_t)row * job->width + head * job->size;
      Vector *pair = (Vector *)(to + (row - first) * job->size + d);
      fetch(numbers, d, BLOCK * job->width);
      widen(numbers + d, pair, pair + 1);
    }
}

/* The same as weigh_rows() for scores [rows][BLOCK tokens], of which some rows are not yet visible. */
INLINE void weigh_tokens(const Job *job, int token, int tokens, int first, int end, Scratch *own) {
  for (int column = 0; column < tokens; column += 8) {
    Vector *most = (Vector *)(own->most + column), *total = (Vector *)(own->total + column);
    Vector before = *most, sum = {};
    Integers last;
    for (int i = 0; i < 8; i++)
      last[i] = job->positions[token + (column + i < tokens ? column + i : tokens - 1)];
    for (int row = first; row < end; row++) {
      Vector *score = (Vector *)(own->weights + (row - first) * BLOCK + column);
      const Integers visible = last >= row;
      *score = (Vector)(((Integers)*score & visible) | ((Integers)((Vector){} + LEAST) & ~visible));
      *most = larger(*most, *score);
    }
    for (int row = first; row < end; row++) {
      Vector *score = (Vector *)(own->weights + (row - first) * BLOCK + column);
      sum += *score = exponential(*score - *most);
    }
    const Vector kept = exponential(before - *most) * (1 / LIFT);
    *total = *total * kept + sum;
    for (int i = 0; i < 8; i++)
      for (int d = 0; d < job->size; d += 8)
        *(Vector *)(own->attended + (column + i) * job->size + d) *= kept[i];
  }
}

INLINE void start_tokens(const Job *job, int head, int token, int tokens, Scratch *own) {
  for (int column = 0; column < BLOCK; column++) {
    const int row = token + (column < tokens ? column : tokens - 1);
    const float *query = job->qkv + (size_t)row * 3 * job->width + head * job->size;
    for (int d = 0; d < job->size; d += 16)
      for (int i = 0; i < 16; i++)
        own->query[(d + i) * BLOCK + column] = SCALE * query[d + i % 8 * 2 + i / 8];
    own->most[column] = LEAST;
    own->total[column] = 0;
  }
  memset(own->attended, 0, sizeof(float) * BLOCK * job->size);
}

MANY void attend_with_tokens(const Job *job, int head, int token, int tokens, Scratch *own) {
  const int size = job->size, rows = job->positions[token + tokens - 1] + 1;
  start_tokens(job, head, token, tokens, own);
  for (int row = 0; row < rows; row += BLOCK) {
    const int end = rows - row < BLOCK ? rows : row + BLOCK;
    widen_rows(job, job->keys, head, row, end, own->rows);
    memset(own->weights, 0, sizeof(float) * BLOCK * BLOCK);
    add_product(own->weights, BLOCK, own->rows, size, 1, own->query, BLOCK, end - row, tokens, size);
    weigh_tokens(job, token, tokens, row, end, own);
    widen_rows(job, job->values, head, row, end, own->rows);
    add_product(own->attended, size, own->weights, 1, BLOCK, own->rows, size, tokens, size, end - row);
  }
  for (int column = 0; column < tokens; column++) {
    float *out = job->attended + (size_t)(token + column) * job->width + head * size;
    const float *attended = own->attended + column * size, total = SCALE / own->total[column];
    for (int d = 0; d < size; d += 16)
      for (int i = 0; i < 16; i++) out[d + i % 8 * 2 + i / 8] = attended[d + i] * total;
  }
}
