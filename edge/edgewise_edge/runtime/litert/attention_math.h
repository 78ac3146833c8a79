/* Attention over float16 caches: of a single token to a block of rows, and of a block of tokens.

   Rows are read once, in blocks, with an online softmax (Milakov and Gimelshein,
   https://arxiv.org/abs/1805.02867). */

#include "attention_numbers.h"

enum { BLOCK = 64 };
#define LEAST -1e30f /* below any score */

typedef struct {
  const float *qkv;           /* [tokens][query, key and value][width] */
  uint16_t *keys, *values;    /* [rows of the cache][width], for many caches one behind the other */
  const int32_t *positions;   /* [tokens], ascending */
  float *attended;            /* [tokens][width] */
  int tokens, heads, size, width;
  size_t apart;               /* numbers from a token's cache to the next one's; 0: they share one */
} Job;

/* A thread's own memory: of one head and BLOCK tokens, except that a single token's `weights` are of all
   heads. */
typedef struct {
  float *most, *total, *attended, *weights, *query, *rows;
} Scratch;

/* A single token's attention to BLOCK rows, by head: relative to the largest score among them. The
   next block's is `stride` numbers further. */
typedef struct {
  float *most, *total, *attended;
  size_t stride;
} Part;

INLINE Part part_of(Part first, int block) {
  const size_t by = first.stride * block;
  return (Part){first.most + by, first.total + by, first.attended + by, first.stride};
}

MANY void write_rows(const Job *job) {
  for (int token = 0; token < job->tokens; token++) {
    const float *key = job->qkv + (size_t)(3 * token + 1) * job->width, *value = key + job->width;
    const size_t row = token * job->apart + (size_t)job->positions[token] * job->width;
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

INLINE void weigh_rows(float *weights, int count, float *most, float *total) {
  Vector sum = {};
  *most = LEAST;
  for (int row = 0; row < count; row++) *most = weights[row] > *most ? weights[row] : *most;
  for (int row = count; row < BLOCK; row++) weights[row] = LEAST;
  for (int row = 0; row < BLOCK; row += 8)
    sum += *(Vector *)(weights + row) = exponential(*(Vector *)(weights + row) - *most);
  *total = 0;
  for (int i = 0; i < 8; i++) *total += sum[i];
}

/* `query` is in the order of widened numbers, `weights` memory for [heads][BLOCK]. */
MANY void attend_to_rows(const Job *job, const float *query, int first, int end, float *weights, Part part) {
  const uint16_t *four[4];
  score_rows(job, query, first, end, weights);
  for (int head = 0; head < job->heads; head++)
    weigh_rows(weights + head * BLOCK, end - first, part.most + head, part.total + head);
  memset(part.attended, 0, sizeof(float) * job->width);
  for (int row = first; row < end; row += 4) {
    four_rows(job->values, job->width, row, end, four); /* past the end, weights are next to zero */
    for (int head = 0; head < job->heads; head++) {
      const float *with = weights + head * BLOCK + row - first;
      for (int d = head * job->size; d < (head + 1) * job->size; d += 16) {
        Vector *attended = (Vector *)(part.attended + d), even, odd;
        for (int i = 0; i < 4; i++) {
          fetch(four[i], d, 8 * job->width);
          widen(four[i] + d, &even, &odd);
          attended[0] += even * with[i];
          attended[1] += odd * with[i];
        }
      }
    }
  }
}

/* The sum of `count` parts, each brought to the scale of the largest score of all, in order: so it does
   not depend on who did which. `sum` is memory for a head. */
MANY void add_parts(const Job *job, Part first, int count, float *sum) {
  for (int head = 0; head < job->heads; head++) {
    float most = LEAST, total = 0, *out = job->attended + head * job->size;
    for (int block = 0; block < count; block++)
      most = part_of(first, block).most[head] > most ? part_of(first, block).most[head] : most;
    memset(sum, 0, sizeof(float) * job->size);
    for (int block = 0; block < count; block++) {
      const Part part = part_of(first, block);
      const float scale = expf(part.most[head] - most);
      total += scale * part.total[head];
      for (int d = 0; d < job->size; d += 8)
        *(Vector *)(sum + d) += scale * *(const Vector *)(part.attended + head * job->size + d);
    }
    for (int d = 0; d < job->size; d += 16)
      for (int i = 0; i < 16; i++) out[d + i % 8 * 2 + i / 8] = sum[d + i] * (SCALE / total);
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

/* Turn scores [rows][BLOCK tokens] into weights, zero for rows that a token may not see; what was
   attended before comes to the same scale. */
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
