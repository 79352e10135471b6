// The order that all-pairs ranking works in, and the counts that fall out of it: O(n log n) time, O(n) memory.
#pragma once

#include <cstdint>
#include <vector>

namespace iqazoo::cpu {

// How pairs compare. tied_scores and tied_targets are pairs tied in that one only.
enum Count { kConcordant, kDiscordant, kTiedScores, kTiedTargets, kTiedBoth, kCounts };

// Items sorted by group, then score, then target. `scores` are negated where `flipped`. NaN sorts last, as one value.
template <typename T>
struct RankingOrder {
  // groups: [n], or null where all items are in one. Throws std::length_error for 2^32 items or more.
  RankingOrder(const T* scores, const T* targets, const int64_t* groups, int64_t n, bool flipped);

  std::vector<uint32_t> item;    // [n], position -> which item of the input
  std::vector<T> score;          // [n], by position
  std::vector<uint32_t> level;   // [n], by position: how many distinct targets are smaller, over all groups
  std::vector<double> mid_rank;  // [n], by position: how many targets of the group are smaller, ties worth a half
  std::vector<int64_t> bounds;   // [groups + 1], the positions where each group starts, then n
  int64_t pairs = 0;             // within groups
  int64_t tied_targets = 0;      // pairs within groups with equal targets, whatever their scores

  void count(int64_t* counts) const;  // [kCounts]; right only where nothing is NaN

 private:
  void set_bounds(const std::vector<uint32_t>& order, const int64_t* groups);
  void rank_targets(const std::vector<uint32_t>& by_target, const std::vector<uint32_t>& item_level);
};

// The counts by themselves. A pair with a NaN is in none of them.
template <typename T>
void ranking_counts(const T* scores, const T* targets, const int64_t* groups, int64_t* counts, int64_t n, bool flipped);

}  // namespace iqazoo::cpu
