/* Numbers of attention.c: float16 that is widened and narrowed, sums and exponentials of vectors.

   Portable C with the vector extensions of gcc and clang.

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

typedef float Vector __attribute__((vector_size(32), may_alias));
typedef float Half __attribute__((vector_size(16), may_alias)); /* of a Vector */
typedef int32_t Integers __attribute__((vector_size(32)));
typedef int32_t Pairs __attribute__((vector_size(32), aligned(2), may_alias));

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
