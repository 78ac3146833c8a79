/* The custom operator `edgewise.attention` of a device model's graph: attention in one pass.

   It takes qkv [T, 3 width] (float32: query, key and value of T new tokens, the query scaled), keys and
   values [C, heads, head size] (float16), and positions [T] (int32, ascending). It writes the new rows
   into the caches, at their positions, and returns attended [T, width] (float32): each token attends to
   the rows up to its own. Head sizes are multiples of 16. Where keys and values are [slots, C, heads, head
   size], each token has a cache of its own, the first one the first, and positions are in any order. */

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "attention_math.h"

#if defined(__x86_64__) || defined(__i386__)
#define PAUSE() __builtin_ia32_pause()
#else
#define PAUSE() ((void)0)
#endif

enum { MOST_THREADS = 16, MANY_TOKENS = 8 /* fewer take less time each by itself */ };

/* ---- Threads: whoever is free takes the next piece. ---- */

typedef struct Kernel {
  int (*address)(void *, void **); /* LiteRtGetTensorBufferHostMemory */
  int (*type)(void *, void *);     /* LiteRtGetTensorBufferTensorType */
  Job job;
  int threads, pieces, blocks; /* blocks: of rows, if a piece is one of them with one token */
  int rows, few;               /* of a cache, and tokens: that there is memory for */
  float *memory, *queries;     /* queries: of a few tokens */
  Part part;                   /* of the first token and the first block */
  Scratch own[MOST_THREADS];
  atomic_int owners, next, active;
  int named, turn, open, stopped; /* with the lock */
  pthread_t workers[MOST_THREADS];
  pthread_mutex_t lock;
  pthread_cond_t wake;
} Kernel;

/* What a token has of a block of rows of its cache, if it attends to any. */
static void take_rows(Kernel *kernel, int piece, Scratch *own) {
  Job job = kernel->job;
  const int token = piece / kernel->blocks, rows = job.positions[token] + 1;
  const int first = piece % kernel->blocks * BLOCK, end = rows - first < BLOCK ? rows : first + BLOCK;
  job.keys += token * job.apart, job.values += token * job.apart;
  if (first < rows)
    attend_to_rows(&job, kernel->queries + token * job.width, first, end, own->weights,
                   part_of(kernel->part, piece));
}

static void take_tokens(Kernel *kernel, int piece, Scratch *own) {
  const Job *job = &kernel->job;
  const int first = piece / job->heads * BLOCK, left = job->tokens - first;
  attend_with_tokens(job, piece % job->heads, first, left < BLOCK ? left : BLOCK, own);
}

static void take_pieces(Kernel *kernel, Scratch *own) {
  for (int piece; (piece = atomic_fetch_add(&kernel->next, 1)) < kernel->pieces;)
    (kernel->blocks ? take_rows : take_tokens)(kernel, piece, own);
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

/* Each token by itself: its result depends on nothing but its own cache. */
static void attend_to_few(Kernel *kernel) {
  Job job = kernel->job;
  kernel->blocks = 1;
  for (int token = 0; token < job.tokens; token++) {
    const int blocks = job.positions[token] / BLOCK + 1;
    if (blocks > kernel->blocks) kernel->blocks = blocks;
    const float *query = job.qkv + (size_t)3 * token * job.width;
    for (int d = 0; d < job.width; d += 16)
      for (int i = 0; i < 16; i++)
        kernel->queries[token * job.width + d + i] = SCALE * query[d + i % 8 * 2 + i / 8];
  }
  share(kernel, job.tokens * kernel->blocks);
  for (int token = 0; token < job.tokens; token++, job.attended += job.width)
    add_parts(&job, part_of(kernel->part, token * kernel->blocks), job.positions[token] / BLOCK + 1,
              kernel->own[0].rows);
}

static void attend_to_many(Kernel *kernel) {
  kernel->blocks = 0;
  share(kernel, (kernel->job.tokens + BLOCK - 1) / BLOCK * kernel->job.heads);
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

enum { OK = 0, INVALID_ARGUMENT = 1, NO_MEMORY = 2 }; /* LiteRtStatus */
enum { FLOAT32 = 1, INT32 = 2, FLOAT16 = 10 };         /* LiteRtElementType */

static float *cut(float **from, size_t count) {
  float *start = *from;
  *from += count;
  return start;
}

static int make_room(Kernel *kernel, int heads, int size, int rows, int few) {
  if (kernel->job.heads == heads && kernel->job.size == size && kernel->rows >= rows && kernel->few >= few)
    return OK;
  if (rows < kernel->rows) rows = kernel->rows;
  if (few < kernel->few) few = kernel->few;
  const size_t all = heads > BLOCK ? heads : BLOCK, width = heads * size, a_head = BLOCK * size;
  const size_t by_head = (heads + 7) / 8 * 8, part = 2 * by_head + width; /* aligned for vectors */
  const size_t thread = 2 * BLOCK + 3 * a_head + all * BLOCK, blocks = (rows + BLOCK - 1) / BLOCK;
  const size_t bytes = sizeof(float) * (few * width + kernel->threads * thread + few * blocks * part);
  float *memory = aligned_alloc(64, (bytes + 63) / 64 * 64);
  if (!memory) return NO_MEMORY; /* what there was still serves smaller steps */
  free(kernel->memory);
  kernel->job = (Job){.heads = heads, .size = size, .width = width};
  kernel->memory = memory, kernel->rows = rows, kernel->few = few;
  float *from = memset(memory, 0, bytes);
  kernel->queries = cut(&from, few * width);
  for (int i = 0; i < kernel->threads; i++)
    kernel->own[i] = (Scratch){cut(&from, BLOCK), cut(&from, BLOCK), cut(&from, a_head),
                               cut(&from, all * BLOCK), cut(&from, a_head), cut(&from, a_head)};
  kernel->part = (Part){cut(&from, by_head), cut(&from, by_head), cut(&from, width), part};
  return OK;
}

void edgewise_attention_release(Kernel *kernel) {
  if (atomic_fetch_sub(&kernel->owners, 1) > 1) return;
  tell(kernel, 0, 1);
  for (int thread = 1; thread < kernel->threads; thread++)
    pthread_join(kernel->workers[thread], NULL);
  free(kernel->memory);
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
  const int apart = in[1].rank == 4;
  const int32_t *qkv = in[0].dimensions, *keys = in[1].dimensions + apart, *values = in[2].dimensions + apart;
  if (in[0].rank != 2 || in[1].rank != 3 + apart || in[2].rank != 3 + apart || in[3].rank != 1 ||
      qkv[0] != in[3].dimensions[0] || qkv[1] != 3 * keys[1] * keys[2] || keys[2] % 16 ||
      memcmp(keys, values, 3 * sizeof *keys))
    return INVALID_ARGUMENT;
  const int failed = make_room(data, keys[1], keys[2], keys[0], apart ? qkv[0] : MANY_TOKENS);
  if (!failed) *out = (Layout){.rank = 2, .dimensions = {qkv[0], qkv[1] / 3}};
  return failed;
}

static int run(void *data, size_t inputs, void **in, size_t outputs, void **out) {
  static const int elements[] = {FLOAT32, FLOAT16, FLOAT16, INT32};
  Kernel *kernel = data;
  Job job = kernel->job;
  Type types[4];
  void *address[4];
  if (inputs != 4 || outputs != 1 || kernel->address(out[0], (void **)&job.attended))
    return INVALID_ARGUMENT;
  for (int i = 0; i < 4; i++)
    if (kernel->type(in[i], &types[i]) || types[i].element != elements[i] ||
        kernel->address(in[i], &address[i]))
      return INVALID_ARGUMENT;
  job.qkv = address[0], job.keys = address[1], job.values = address[2], job.positions = address[3];
  job.tokens = types[3].layout.dimensions[0];
  const int apart = types[1].layout.rank == 4;
  const int32_t *shape = types[1].layout.dimensions + apart;
  if (types[0].layout.dimensions[0] != job.tokens || shape[0] > kernel->rows ||
      shape[1] != job.heads || shape[2] != job.size)
    return INVALID_ARGUMENT;
  job.apart = apart ? (size_t)shape[0] * job.width : 0;
  if (apart && (job.tokens > kernel->few || job.tokens > types[1].layout.dimensions[0] ||
                job.tokens > types[2].layout.dimensions[0]))
    return INVALID_ARGUMENT;
  for (int token = 0; token < job.tokens; token++)
    if (job.positions[token] < 0 || job.positions[token] >= shape[0]) return INVALID_ARGUMENT;
  kernel->job = job;
  write_rows(&job);
  if (apart || job.tokens < MANY_TOKENS) attend_to_few(kernel);
  else attend_to_many(kernel);
  return OK;
}

const struct {
  int (*init)(void *, const void *, size_t);
  int (*layouts)(void *, size_t, const Layout *, size_t, Layout *);
  int (*run)(void *, size_t, void **, size_t, void **);
  int (*destroy)(void *);
} edgewise_attention_kernel = {init, layouts, run, destroy};

/* What a model's operators share, until it is released. NULL where there is no memory; it has fewer
   threads where the system gives no more. */
Kernel *edgewise_attention_new(int threads, void *address, void *type) {
  Kernel *kernel = calloc(1, sizeof *kernel);
  if (!kernel) return NULL;
  kernel->address = (int (*)(void *, void **))address;
  kernel->type = (int (*)(void *, void *))type;
  pthread_mutex_init(&kernel->lock, NULL);
  pthread_cond_init(&kernel->wake, NULL);
  atomic_store(&kernel->owners, 1);
  for (kernel->threads = 1; kernel->threads < threads && kernel->threads < MOST_THREADS; kernel->threads++)
    if (pthread_create(&kernel->workers[kernel->threads], NULL, work, kernel)) break;
  return kernel;
}
