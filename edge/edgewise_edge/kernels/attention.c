/* Attention over bfloat16 caches, as a custom operator of the device model's graph.

   The operator `edgewise.attention` takes qkv [T, 3 width] (float32: query, key and value of T new tokens, the
   query scaled), keys and values [C, heads, head size] (bfloat16), and positions [T] (int32, ascending). It writes
   the new rows into the caches at their positions, and returns attended [T, width] (float32): each token attends
   to the rows up to its own. Caches are read once, from the first row to the last one that is needed, in blocks
   of 64, with an online softmax (Milakov and Gimelshein, https://arxiv.org/abs/1805.02867).

   Widened, 16 numbers of a row become two vectors: the eight even ones, and the eight odd ones. So queries are
   kept in that order too, and what was attended is put in order again at the end. */

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__) && defined(__gnu_linux__)
#define MANY static __attribute__((target_clones("default", "arch=x86-64-v3")))
#else
#define MANY static
#endif
#if defined(__x86_64__) || defined(__i386__)
#define PAUSE() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define PAUSE() __asm__ volatile("isb")
#else
#define PAUSE() ((void)0)
#endif
#define INLINE static inline __attribute__((always_inline))
#define ALIGNED __attribute__((aligned(64)))

enum { BLOCK = 64 /* rows, and tokens, that are worked on at a time */, MOST_THREADS = 16, PARTS = 6 /* of Scratch */ };
#define LEAST -1e30f /* lower than any score */

typedef float Vector __attribute__((vector_size(32), may_alias));
typedef float Half __attribute__((vector_size(16), may_alias));
typedef int32_t Mask __attribute__((vector_size(32)));
typedef uint32_t Bits __attribute__((vector_size(32)));
typedef int32_t Pairs __attribute__((vector_size(32), aligned(2), may_alias));

typedef struct {
  const float *qkv;
  uint16_t *keys, *values;
  const int32_t *positions;
  float *attended;
  int tokens, heads, size, width;
} Job;

/* A thread's own memory. With a single token, `most`, `total` and `attended` are by head and span what the thread
   has seen; with many, they are by token, of one head and BLOCK tokens. */
typedef struct {
  float *most, *total, *attended, *weights, *query, *rows;
} Scratch;

#ifdef BF16
#define SCALE 1.0f
INLINE uint16_t narrow(float x) { /* rounded to the nearest, ties to even */
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

INLINE void widen(const uint16_t *row, Vector *even, Vector *odd) {
  Bits pairs = (Bits)*(const Pairs *)row;
  *even = (Vector)(pairs << 16);
  *odd = (Vector)(pairs & 0xffff0000u);
}
#else
#define SCALE 0x1p112f /* of widened numbers, which have the exponent of a half: what they are multiplied with */

INLINE uint16_t narrow(float x) { /* rounded to the nearest, ties to even; at most the largest half */
  uint32_t bits;
  x *= 1 / SCALE;
  memcpy(&bits, &x, sizeof bits);
  uint32_t rest = bits & 0x7fffffff;
  rest = (rest + 0xfff + (rest >> 13 & 1)) >> 13;
  return (uint16_t)((bits >> 16 & 0x8000) | (rest < 0x7bff ? rest : 0x7bff));
}

INLINE void widen(const uint16_t *row, Vector *even, Vector *odd) {
  Mask pairs = *(const Pairs *)row;
  *even = (Vector)((pairs << 16 >> 3) & (int32_t)0x8fffe000);
  *odd = (Vector)((pairs >> 3) & (int32_t)0x8fffe000);
}
#endif

#define LIFT 0x1p96f /* of attention's weights, lest products with widened values get too small to be exact */

INLINE Vector larger(Vector a, Vector b) {
  Mask chosen = a > b;
  return (Vector)(((Mask)a & chosen) | ((Mask)b & ~chosen));
}

INLINE Vector exponential(Vector x) { /* times LIFT, of at most 0; relative error below 1e-6 */
  x = larger(x, (Vector){} - 87.0f);
  Vector shifted = x * 1.44269504f + 12582912.0f, power = shifted - 12582912.0f;
  Vector rest = (x - power * 0.693359375f) + power * 2.12194440e-4f, y = rest * 1.98756915e-4f + 1.3981999507e-3f;
  y = (y * rest + 8.3334519073e-3f) * rest + 4.1665795894e-2f;
  y = (y * rest + 1.6666665459e-1f) * rest + 5.0000001201e-1f;
  y = y * rest * rest + rest + 1.0f;
  return (Vector)((Bits)y + ((Bits)shifted << 23)) * LIFT;
}

INLINE Half folded(Vector x) {
  return __builtin_shufflevector(x, x, 0, 1, 2, 3) + __builtin_shufflevector(x, x, 4, 5, 6, 7);
}

INLINE Half sums(const Vector x[4]) {
  Half a = folded(x[0]), b = folded(x[1]), c = folded(x[2]), d = folded(x[3]);
  Half ab = __builtin_shufflevector(a, b, 0, 4, 1, 5) + __builtin_shufflevector(a, b, 2, 6, 3, 7);
  Half cd = __builtin_shufflevector(c, d, 0, 4, 1, 5) + __builtin_shufflevector(c, d, 2, 6, 3, 7);
  return __builtin_shufflevector(ab, cd, 0, 1, 4, 5) + __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
}

/* ---- A single token: a piece is a block of rows, for all heads. ---- */

INLINE void rows_of(const uint16_t *rows, int width, int count, const uint16_t *four[4]) {
  for (int i = 0; i < 4; i++) four[i] = rows + (size_t)(i < count ? i : count - 1) * width;
}

MANY void attend_to_rows(const Job *job, const float *query, int first, int count, Scratch *own) {
  const int width = job->width, size = job->size;
  const uint16_t *four[4];
  for (int row = 0; row < count; row += 4) {
    rows_of(job->keys + (size_t)(first + row) * width, width, count - row, four);
    for (int head = 0; head < job->heads; head++) {
      Vector products[4] = {};
      for (int d = head * size; d < (head + 1) * size; d += 16)
        for (int i = 0; i < 4; i++) {
          Vector even, odd;
          widen(four[i] + d, &even, &odd);
          products[i] += even * *(const Vector *)(query + d);
          products[i] += odd * *(const Vector *)(query + d + 8);
        }
      *(Half *)(own->weights + head * BLOCK + row) = sums(products);
    }
  }
  for (int head = 0; head < job->heads; head++) {
    float *all = own->weights + head * BLOCK, most = own->most[head], before = most, total = 0;
    for (int row = count; row < BLOCK; row++) all[row] = -INFINITY;
    for (int row = 0; row < count; row++) most = all[row] > most ? all[row] : most;
    Vector sum = {};
    for (int row = 0; row < BLOCK; row += 8) sum += *(Vector *)(all + row) = exponential(*(Vector *)(all + row) - most);
    for (int i = 0; i < 8; i++) total += sum[i];
    const float kept = expf(before - most);
    own->most[head] = most;
    own->total[head] = own->total[head] * kept + total;
    for (int d = head * size; d < (head + 1) * size; d += 8) *(Vector *)(own->attended + d) *= kept;
  }
  for (int row = 0; row < count; row += 4) { /* past the last row, weights are as good as zero */
    rows_of(job->values + (size_t)(first + row) * width, width, count - row, four);
    for (int head = 0; head < job->heads; head++)
      for (int d = head * size; d < (head + 1) * size; d += 16) {
        const float *weights = own->weights + head * BLOCK + row;
        Vector *attended = (Vector *)(own->attended + d);
        for (int i = 0; i < 4; i++) {
          Vector even, odd;
          widen(four[i] + d, &even, &odd);
          attended[0] += even * weights[i];
          attended[1] += odd * weights[i];
        }
      }
  }
}

/* ---- Many tokens: a piece is a block of tokens, for one head. ---- */

/* out[rows][columns] += left * right, where left[row, k] is at left[row * across + k * along]. */
INLINE void add_product(float *out, int out_width, const float *left, int across, int along, const float *right,
                        int right_width, int rows, int columns, int depth) {
  for (int row = 0; row < rows; row += 4)
    for (int column = 0; column < columns; column += 16) {
      Vector sum[4][2];
      for (int i = 0; i < 4; i++)
        for (int j = 0; j < 2; j++) sum[i][j] = *(Vector *)(out + (row + i) * out_width + column + 8 * j);
      for (int k = 0; k < depth; k++) {
        const Vector *with = (const Vector *)(right + k * right_width + column);
        for (int i = 0; i < 4; i++)
          for (int j = 0; j < 2; j++) sum[i][j] += left[(row + i) * across + k * along] * with[j];
      }
      for (int i = 0; i < 4; i++)
        for (int j = 0; j < 2; j++) *(Vector *)(out + (row + i) * out_width + column + 8 * j) = sum[i][j];
    }
}

INLINE void widen_rows(const uint16_t *from, int width, int count, int size, float *to) {
  for (int row = 0; row < count; row++)
    for (int d = 0; d < size; d += 16) {
      Vector *pair = (Vector *)(to + row * size + d);
      widen(from + (size_t)row * width + d, pair, pair + 1);
    }
}

/* Turn scores [rows][BLOCK tokens] into weights, and what was attended before to the same scale. */
INLINE void weigh(const Job *job, Scratch *own, int first_token, int tokens, int first_row, int rows) {
  for (int token = 0; token < tokens; token += 8) {
    Vector *most = (Vector *)(own->most + token), *total = (Vector *)(own->total + token), before = *most, sum = {};
    Mask position;
    for (int i = 0; i < 8; i++) position[i] = job->positions[first_token + (token + i < tokens ? token + i : tokens - 1)];
    for (int row = 0; row < rows; row++) {
      Vector *score = (Vector *)(own->weights + row * BLOCK + token);
      Mask seen = position >= first_row + row;
      *score = (Vector)(((Mask)*score & seen) | ((Mask)((Vector){} - INFINITY) & ~seen));
      *most = larger(*most, *score);
    }
    for (int row = 0; row < rows; row++) {
      Vector *score = (Vector *)(own->weights + row * BLOCK + token);
      sum += *score = exponential(*score - *most);
    }
    const Vector kept = exponential(before - *most) * (1 / LIFT);
    *total = *total * kept + sum;
    for (int i = 0; i < 8; i++)
      for (int d = 0; d < job->size; d += 8) *(Vector *)(own->attended + (token + i) * job->size + d) *= kept[i];
  }
}

MANY void attend_with_tokens(const Job *job, int head, int first_token, int tokens, Scratch *own) {
  const int size = job->size, width = job->width, at = head * size;
  const int last = job->positions[first_token + tokens - 1];
  for (int token = 0; token < BLOCK; token++) {
    const float *query = job->qkv + (size_t)(first_token + (token < tokens ? token : tokens - 1)) * 3 * width + at;
    for (int d = 0; d < size; d += 16)
      for (int i = 0; i < 8; i++) {
        own->query[(d + i) * BLOCK + token] = SCALE * query[d + 2 * i];
        own->query[(d + 8 + i) * BLOCK + token] = SCALE * query[d + 2 * i + 1];
      }
    own->most[token] = LEAST;
    own->total[token] = 0;
  }
  memset(own->attended, 0, sizeof(float) * BLOCK * size);
  for (int row = 0; row <= last; row += BLOCK) {
    const int rows = last + 1 - row < BLOCK ? last + 1 - row : BLOCK;
    widen_rows(job->keys + (size_t)row * width + at, width, rows, size, own->rows);
    memset(own->weights, 0, sizeof(float) * BLOCK * BLOCK);
    add_product(own->weights, BLOCK, own->rows, size, 1, own->query, BLOCK, rows, tokens, size);
    weigh(job, own, first_token, tokens, row, rows);
    widen_rows(job->values + (size_t)row * width + at, width, rows, size, own->rows);
    add_product(own->attended, size, own->weights, 1, BLOCK, own->rows, size, tokens, size, rows);
  }
  for (int token = 0; token < tokens; token++)
    for (int d = 0; d < size; d += 16)
      for (int i = 0; i < 8; i++) {
        const float *attended = own->attended + token * size + d + i;
        float *out = job->attended + (size_t)(first_token + token) * width + at + d + 2 * i;
        out[0] = attended[0] * (SCALE / own->total[token]);
        out[1] = attended[8] * (SCALE / own->total[token]);
      }
}

MANY void write_rows(const Job *job) {
  for (int token = 0; token < job->tokens; token++) {
    const float *key = job->qkv + (size_t)(3 * token + 1) * job->width, *value = key + job->width;
    uint16_t *keys = job->keys + (size_t)job->positions[token] * job->width;
    uint16_t *values = job->values + (size_t)job->positions[token] * job->width;
    for (int d = 0; d < job->width; d++) keys[d] = narrow(key[d]);
    for (int d = 0; d < job->width; d++) values[d] = narrow(value[d]);
  }
}

/* ---- Threads: whoever is free takes the next piece. ---- */

typedef struct Kernel {
  int (*memory)(void *, void **); /* LiteRtGetTensorBufferHostMemory */
  int (*type)(void *, void *);    /* LiteRtGetTensorBufferTensorType */
  Job job;
  int threads, pieces;
  float *query; /* of a single token */
  Scratch own[MOST_THREADS];
  atomic_int owners, next, active;
  int named, turn, open, stopped; /* with the lock */
  pthread_t workers[MOST_THREADS];
  pthread_mutex_t lock;
  pthread_cond_t wake;
} Kernel;

static void take_pieces(Kernel *kernel, Scratch *own) {
  const Job *job = &kernel->job;
  const int single = job->tokens == 1, all = single ? job->positions[0] + 1 : job->tokens;
  for (int piece; (piece = atomic_fetch_add(&kernel->next, 1)) < kernel->pieces;) {
    const int first = (single ? piece : piece / job->heads) * BLOCK;
    const int count = all - first < BLOCK ? all - first : BLOCK;
    if (single) attend_to_rows(job, kernel->query, first, count, own);
    else attend_with_tokens(job, piece % job->heads, first, count, own);
  }
}

static void *work(void *data) {
  Kernel *kernel = data;
  pthread_mutex_lock(&kernel->lock);
  Scratch *own = &kernel->own[++kernel->named];
  for (int seen = 0; !kernel->stopped;) {
    if (kernel->open && kernel->turn != seen) {
      seen = kernel->turn;
      atomic_fetch_add(&kernel->active, 1);
      pthread_mutex_unlock(&kernel->lock);
      take_pieces(kernel, own);
      atomic_fetch_sub(&kernel->active, 1);
      pthread_mutex_lock(&kernel->lock);
    } else pthread_cond_wait(&kernel->wake, &kernel->lock);
  }
  pthread_mutex_unlock(&kernel->lock);
  return NULL;
}

static void tell(Kernel *kernel, int open, int stopped) {
  pthread_mutex_lock(&kernel->lock);
  kernel->open = open, kernel->stopped = stopped, kernel->turn += open;
  if (open || stopped) pthread_cond_broadcast(&kernel->wake);
  pthread_mutex_unlock(&kernel->lock);
}

/* Nobody waits for a thread that still sleeps when the last piece is taken. */
static void share(Kernel *kernel, int pieces) {
  const int alone = kernel->threads == 1 || pieces == 1;
  kernel->pieces = pieces;
  atomic_store(&kernel->next, 0);
  if (!alone) tell(kernel, 1, 0);
  take_pieces(kernel, &kernel->own[0]);
  if (!alone) tell(kernel, 0, 0);
  while (atomic_load(&kernel->active)) PAUSE();
}

/* A block's result is on the scale of its own largest score: all are brought to the largest of all. */
static void attend_once(Kernel *kernel) {
  const Job *job = &kernel->job;
  const int size = job->size;
  for (int d = 0; d < job->width; d += 16)
    for (int i = 0; i < 8; i++) {
      kernel->query[d + i] = SCALE * job->qkv[d + 2 * i];
      kernel->query[d + 8 + i] = SCALE * job->qkv[d + 2 * i + 1];
    }
  for (int thread = 0; thread < kernel->threads; thread++) {
    Scratch *own = &kernel->own[thread];
    for (int head = 0; head < job->heads; head++) own->most[head] = LEAST, own->total[head] = 0;
    memset(own->attended, 0, sizeof(float) * job->width);
  }
  share(kernel, job->positions[0] / BLOCK + 1);
  for (int head = 0; head < job->heads; head++) {
    float most = LEAST, total = 0, part[MOST_THREADS];
    for (int thread = 0; thread < kernel->threads; thread++)
      if (kernel->own[thread].most[head] > most) most = kernel->own[thread].most[head];
    for (int thread = 0; thread < kernel->threads; thread++) {
      part[thread] = expf(kernel->own[thread].most[head] - most);
      total += part[thread] * kernel->own[thread].total[head];
    }
    for (int d = head * size; d < (head + 1) * size; d += 16)
      for (int i = 0; i < 16; i++) {
        float sum = 0;
        for (int thread = 0; thread < kernel->threads; thread++) sum += part[thread] * kernel->own[thread].attended[d + i];
        job->attended[d + i % 8 * 2 + i / 8] = sum * (SCALE / total);
      }
  }
}

/* ---- The operator, as litert/c/litert_custom_op_kernel.h of LiteRT 2.3 has it. ---- */

typedef struct {
  unsigned int rank : 7, has_strides : 1;
  int32_t dimensions[8];
  uint32_t strides[8];
} Layout;

typedef struct {
  int element;
  Layout layout;
} Type;

enum { OK = 0, INVALID_ARGUMENT = 1, NO_MEMORY = 2 };

static void free_floats(Kernel *kernel) {
  for (int thread = 0; thread < kernel->threads; thread++)
    for (int part = 0; part < PARTS; part++) free((&kernel->own[thread].most)[part]);
  free(kernel->query);
}

static float *floats(size_t count) {
  const size_t size = (count * sizeof(float) + 63) / 64 * 64;
  void *memory = aligned_alloc(64, size);
  return memory ? memset(memory, 0, size) : NULL;
}

static int make_room(Kernel *kernel, int heads, int size) {
  const int width = heads * size, most = heads > BLOCK ? heads : BLOCK, longest = width > BLOCK * size ? width : BLOCK * size;
  const int counts[PARTS] = {most, most, longest, most * BLOCK, BLOCK * size, BLOCK * size};
  if (kernel->job.heads == heads && kernel->job.size == size) return OK;
  if (size % 16) return INVALID_ARGUMENT;
  free_floats(kernel);
  int complete = (kernel->query = floats(width)) != NULL;
  for (int thread = 0; thread < kernel->threads; thread++)
    for (int part = 0; part < PARTS; part++)
      complete &= ((&kernel->own[thread].most)[part] = floats(counts[part])) != NULL;
  kernel->job = (Job){.heads = heads, .size = size, .width = width};
  return complete ? OK : NO_MEMORY;
}

void edgewise_attention_release(Kernel *kernel) {
  if (atomic_fetch_sub(&kernel->owners, 1) > 1) return;
  tell(kernel, 0, 1);
  for (int thread = 1; thread < kernel->threads; thread++) pthread_join(kernel->workers[thread], NULL);
  free_floats(kernel);
  free(kernel);
}

/* Each operator of a graph owns the kernel that they share, too. */
static int init(void *data, const void *options, size_t size) {
  atomic_fetch_add(&((Kernel *)data)->owners, 1);
  return (void)options, (void)size, OK;
}

static int destroy(void *data) { return edgewise_attention_release(data), OK; }

/* LiteRT ignores what these two return. An operator without a layout has it refuse the graph. */
static int layouts(void *data, size_t inputs, const Layout *in, size_t outputs, Layout *out) {
  for (size_t i = 0; i < outputs; i++) out[i] = (Layout){0};
  if (inputs != 4 || outputs != 1) return INVALID_ARGUMENT;
  const int heads = in[1].dimensions[1], size = in[1].dimensions[2], failed = make_room(data, heads, size);
  if (!failed) *out = (Layout){.rank = 2, .dimensions = {in[0].dimensions[0], heads * size}};
  return failed;
}

static int run(void *data, size_t inputs, void **in, size_t outputs, void **out) {
  Kernel *kernel = data;
  Job *job = &kernel->job;
  Type tokens, cache;
  if (inputs != 4 || outputs != 1 || kernel->memory(in[0], (void **)&job->qkv) ||
      kernel->memory(in[1], (void **)&job->keys) || kernel->memory(in[2], (void **)&job->values) ||
      kernel->memory(in[3], (void **)&job->positions) || kernel->memory(out[0], (void **)&job->attended) ||
      kernel->type(in[3], &tokens) || kernel->type(in[1], &cache))
    return INVALID_ARGUMENT;
  job->tokens = tokens.layout.dimensions[0];
  for (int token = 0; token < job->tokens; token++)
    if (job->positions[token] < 0 || job->positions[token] >= cache.layout.dimensions[0]) return INVALID_ARGUMENT;
  write_rows(job);
  if (job->tokens == 1) attend_once(kernel);
  else share(kernel, (job->tokens + BLOCK - 1) / BLOCK * job->heads);
  return OK;
}

const struct {
  int (*init)(void *, const void *, size_t);
  int (*layouts)(void *, size_t, const Layout *, size_t, Layout *);
  int (*run)(void *, size_t, void **, size_t, void **);
  int (*destroy)(void *);
} edgewise_attention_kernel = {init, layouts, run, destroy};

/* What a model's operators share, for release(). NULL where there is no memory; fewer threads where there are no more. */
Kernel *edgewise_attention_new(int threads, void *memory, void *type) {
  Kernel *kernel = calloc(1, sizeof *kernel);
  if (!kernel) return NULL;
  kernel->memory = (int (*)(void *, void **))memory;
  kernel->type = (int (*)(void *, void *))type;
  pthread_mutex_init(&kernel->lock, NULL);
  pthread_cond_init(&kernel->wake, NULL);
  atomic_store(&kernel->owners, 1);
  for (kernel->threads = 1; kernel->threads < threads && kernel->threads < MOST_THREADS; kernel->threads++)
    if (pthread_create(&kernel->workers[kernel->threads], NULL, work, kernel)) break;
  return kernel;
}
