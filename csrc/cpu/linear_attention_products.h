// Products of tiles, and what a tile's numbers are mapped to.
#pragma once

#include "cpu/linear_attention_ahead.h"
#include "cpu/linear_attention_tiles.h"

namespace iqazoo::cpu::tiles {

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

template <By by, int J, typename T, typename Finish>
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

template <typename T>
inline Into into_of(const TileTarget<T>& target) {
  return target.streams() ? Into::stream : Into::set;
}

// to (+)= A B for `rows` rows, a multiple of kRows, and `vectors` vectors of columns.
template <By by, typename T, typename Finish = AsItIs>
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
  Ahead nothing;
  product<by>(Given<T>{a, a_step}, Given<T>{b, b_step}, Rows<T>{to, to_step}, rows, vectors, depth,
              add ? Into::add : Into::set, nothing);
}

// Maps: of rows as given, to a tile, which may be the same. A row is a feature, where turned a position.

// `map(x, f, j)` changes vector j of row f.
template <typename T, typename Map>
inline void map_rows(const Given<T>& from, const Rows<T>& to, int64_t rows, int64_t vectors, Ahead& ahead,
                     const Map& map) {
  for (int64_t f = 0; f < rows; ++f) {
    for (int64_t j = 0; j < vectors; ++j) {
      ahead.fetch();
      Pack<T> x = load(from.data + f * from.step + j * kWide<T>);
      map(x, f, j);
      store(to.data + f * to.step + j * kWide<T>, x);
    }
  }
}

template <typename T>
void scale_rows(const Given<T>& from, const Rows<T>& to, int64_t rows, int64_t vectors, T scale, Ahead& ahead) {
  map_rows(from, to, rows, vectors, ahead, [&](Pack<T>& x, int64_t, int64_t) { x.v *= scale; });
}

template <typename T>
void elu1_rows(const Given<T>& from, const Rows<T>& to, int64_t rows, int64_t vectors, Ahead& ahead) {
  map_rows(from, to, rows, vectors, ahead, [](Pack<T>& x, int64_t, int64_t) {
    const Pack<T> y = exp_of(x);
    x.v = x.v > T(0) ? x.v + T(1) : y.v;
  });
}

// exp(x - shift[feature]).
template <typename T>
void exp_below(const Given<T>& from, const Rows<T>& to, int64_t features, int64_t vectors, const T* shift,
               Ahead& ahead) {
  map_rows(from, to, features, vectors, ahead, [&](Pack<T>& x, int64_t f, int64_t) {
    x = exp_of(Pack<T>{x.v - shift[f]});
  });
}

// The same of turned rows.
template <typename T>
void exp_below_turned(const Given<T>& from, const Rows<T>& to, int64_t count, int64_t vectors, const T* shift,
                      Ahead& ahead) {
  map_rows(from, to, count, vectors, ahead, [&](Pack<T>& x, int64_t, int64_t j) {
    x = exp_of(Pack<T>{x.v - load(shift + j * kWide<T>).v});
  });
}

template <int J, typename T>
inline void exp_columns(const Given<T>& from, T* tile, int64_t features, T scale, T* factors, Ahead& ahead) {
  Pack<T> most[J], sum[J];
  for (int j = 0; j < J; ++j) most[j] = load(from.data + j * kWide<T>), sum[j] = Pack<T>{};
  for (int64_t f = 1; f < features; ++f) {
    for (int j = 0; j < J; ++j) most[j] = greater(load(from.data + f * from.step + j * kWide<T>), most[j]);
  }
  for (int64_t f = 0; f < features; ++f) {
    for (int j = 0; j < J; ++j) {
      ahead.fetch();
      const Pack<T> y = exp_of(Pack<T>{load(from.data + f * from.step + j * kWide<T>).v - most[j].v});
      store(tile + f * kBlock + j * kWide<T>, y);
      sum[j].v += y.v;
    }
  }
  for (int j = 0; j < J; ++j) store(factors + j * kWide<T>, Pack<T>{scale / sum[j].v});
}

// A softmax over features and `scale`, in two parts: exp(x - greatest), and what is to be multiplied with at each
// position, scale / sum.
template <typename T>
void exp_features(const Given<T>& from, T* tile, int64_t vectors, int64_t features, T scale, T* factors,
                  Ahead& ahead) {
  const auto part = [&](int64_t j) { return Given<T>{from.data + j * kWide<T>, from.step}; };
  int64_t j = 0;
  for (; j + 4 <= vectors; j += 4) {
    exp_columns<4>(part(j), tile + j * kWide<T>, features, scale, factors + j * kWide<T>, ahead);
  }
  for (; j < vectors; ++j) {
    exp_columns<1>(part(j), tile + j * kWide<T>, features, scale, factors + j * kWide<T>, ahead);
  }
}

// Every row of a tile times `factors`, one for each position.
template <typename T>
void scale_positions(T* tile, const T* factors, int64_t vectors, int64_t rows) {
  for (int64_t f = 0; f < rows; ++f) {
    for (int64_t j = 0; j < vectors; ++j) {
      T* at = tile + f * kBlock + j * kWide<T>;
      store(at, Pack<T>{load(at).v * load(factors + j * kWide<T>).v});
    }
  }
}

}  // namespace iqazoo::cpu::tiles
