// What a tile's numbers are mapped to.
#pragma once

#include "cpu/linear_attention_ahead.h"
#include "cpu/linear_attention_tiles.h"

namespace iqazoo::cpu::tiles {

// Rows as given go to a tile, which may be the same. A row is a feature, where turned a position.

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
