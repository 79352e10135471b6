// Memory that the next tiles will be read from or written to, fetched line by line while the present ones are computed
// with: a core computes as long as it reads, hardware follows neither as many rows nor from page to page.
#pragma once

#include <cstdint>

#include "cpu/linear_attention_head.h"

namespace iqazoo::cpu::tiles {

class Ahead {
 public:
  // What is expected last is fetched first.
  template <typename T>
  void read(const Head<T>& from, int64_t count, int64_t features) {
    expect(from, count, features, false);
  }
  template <typename T>
  void write(const Head<T>& to, int64_t count, int64_t features) {
    expect(to, count, features, true);
  }

  // Fetches one line, if any is left. Addresses past the end do no harm. Inlined by force: a call would cost more, and
  // GCC drops calls of a function that does nothing but prefetch, as it has no effect on what is computed.
  [[gnu::always_inline]] inline void fetch() {
    if (lines_ == 0) return;
    --lines_;
    if (at_ >= end_) next_row();
    if (area_.written) {
      __builtin_prefetch(at_, 1);
    } else {
      __builtin_prefetch(at_, 0);
    }
    at_ += kLine;
  }

 private:
  static constexpr int64_t kLine = 64;
  struct Area {
    const char* data;
    int64_t step, rows, bytes;
    bool written;
  };

  template <typename T>
  void expect(const Head<T>& head, int64_t count, int64_t features, bool written) {
    const auto* data = reinterpret_cast<const char*>(head.data);
    constexpr auto size = static_cast<int64_t>(sizeof(T));
    if (head.position == 1) {
      areas_[left_++] = {data, head.feature * size, features, count * size, written};
    } else {
      areas_[left_++] = {data, head.position * size, count, features * size, written};
    }
    const Area& added = areas_[left_ - 1];
    lines_ += added.rows * ((added.bytes + kLine - 1) / kLine);
  }

  void next_row() {
    if (area_.rows == 0) area_ = areas_[--left_];
    at_ = area_.data;
    end_ = at_ + area_.bytes;
    area_.data += area_.step;
    --area_.rows;
  }

  int64_t lines_ = 0;
  const char *at_ = nullptr, *end_ = nullptr;
  Area area_{}, areas_[4];
  int64_t left_ = 0;
};

}  // namespace iqazoo::cpu::tiles
