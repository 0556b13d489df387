// Tasks whose answers are texts that a model writes: what evaluation has it write, and what it makes of that.
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "graft/data/source.h"

namespace graft {

/// A second face of a Task; evaluation asks for it and generates where it is there.
class AnswerJudge {
 public:
  virtual ~AnswerJudge() = default;
  /// The most ids that an answer needs; 0: nothing is to be judged.
  virtual int64_t answer_length() const = 0;
  /// The id that ends an answer.
  virtual int64_t end_id() const = 0;
  struct Judgement {
    std::vector<std::pair<std::string, double>> values;
    std::vector<Json> predictions;  // one an answer
  };
  /// Metrics of the ids written for each of the examples (one sequence each, in order).
  virtual Judgement judge(const std::vector<Example>& examples,
                          const std::vector<std::vector<int64_t>>& answers) const = 0;
};

}  // namespace graft
