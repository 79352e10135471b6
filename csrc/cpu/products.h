// Products of small matrices in the cache, by vectors.
#pragma once

#include <cstdint>

#include "cpu/wide.h"

namespace iqazoo::cpu {

// Rows of numbers: `step` from one to the next.
template <typename T>
struct Rows {
  T* data;
  int64_t step;
};

template <typename T>
using Given = Rows<const T>;

// What is fetched while a product is computed: one line in each step of its depth, or nothing.
struct NothingAhead {
  void fetch() {}
};

// A vector of results, past the caches or not.
template <typename T>
inline void put(T* to, const Pack<T>& from, bool past_caches) {
  if (past_caches) {
    stream(to, from);
  } else {
    store(to, from);
  }
}

// Products. A is a(i, k), given by rows (a[i * step + k]) or by columns (a[i + k * step]); B has rows b[k].

enum class By { rows, columns };
enum class Into { set, add, stream };  // stream: past the caches, to aligned rows

#if defined(__AVX512F__)
constexpr int kRows = 8;  // 16 sums and 2 rows of B in 32 registers
#else
constexpr int kRows = 4;  // 8 sums and 2 rows of B in 16 registers
#endif

// What becomes of a vector of results before it is stored: `finish(sum, row, vector)` changes it, `vector` being its
// number along the row.
struct AsItIs {
  template <typename T>
  void operator()(Pack<T>&, int64_t, int64_t) const {}
};

template <By by, int J, typename T, typename Ahead, typename Finish>
inline void product_block(const T* __restrict__ a, int64_t a_step, const T* __restrict__ b, int64_t b_step,
                          T* __restrict__ to, int64_t to_step, int64_t depth, Into into, Ahead& ahead,
                          const Finish& finish) {
  Pack<T> sums[kRows][J];
  for (int i = 0; i < kRows; ++i) {
    for (int j = 0; j < J; ++j) sums[i][j] = into == Into::add ? load(to + i * to_step + j * kWide<T>) : Pack<T>{};
  }
  for (int64_t k = 0; k < depth; ++k) {
    ahead.fetch();
    Pack<T> row[J];
    for (int j = 0; j < J; ++j) row[j] = load(b + k * b_step + j * kWide<T>);
    for (int i = 0; i < kRows; ++i) {
      const T factor = by == By::rows ? a[i * a_step + k] : a[i + k * a_step];
      for (int j = 0; j < J; ++j) sums[i][j].v += factor * row[j].v;
    }
  }
  for (int i = 0; i < kRows; ++i) {
    for (int j = 0; j < J; ++j) {
      finish(sums[i][j], i, j);
      put(to + i * to_step + j * kWide<T>, sums[i][j], into == Into::stream);
    }
  }
}

// to (+)= A B for `rows` rows, a multiple of kRows, and `vectors` vectors of columns.
template <By by, typename T, typename Ahead, typename Finish = AsItIs>
void product(const Given<T>& a, const Given<T>& b, const Rows<T>& to, int64_t rows, int64_t vectors, int64_t depth,
             Into into, Ahead& ahead, const Finish& finish = {}) {
  for (int64_t j = 0; j < vectors; j += 2) {
    for (int64_t i = 0; i < rows; i += kRows) {
      const T* part = by == By::rows ? a.data + i * a.step : a.data + i;
      const T* columns = b.data + j * kWide<T>;
      T* out = to.data + i * to.step + j * kWide<T>;
      const auto here = [&](Pack<T>& sum, int64_t row, int64_t vector) { finish(sum, i + row, j + vector); };
      if (j + 1 < vectors) {
        product_block<by, 2>(part, a.step, columns, b.step, out, to.step, depth, into, ahead, here);
      } else {
        product_block<by, 1>(part, a.step, columns, b.step, out, to.step, depth, into, ahead, here);
      }
    }
  }
}

// The same with nothing to fetch.
template <By by, typename T>
void product(const T* a, int64_t a_step, const T* b, int64_t b_step, T* to, int64_t to_step, int64_t rows,
             int64_t vectors, int64_t depth, bool add) {
  NothingAhead nothing;
  product<by>(Given<T>{a, a_step}, Given<T>{b, b_step}, Rows<T>{to, to_step}, rows, vectors, depth,
              add ? Into::add : Into::set, nothing);
}

}  // namespace iqazoo::cpu
