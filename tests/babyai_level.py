"""A level of BabyAI whose mission is hidden: go to the ball of one colour; all four balls are there."""

import gymnasium as gym
import numpy as np
from minigrid.envs.babyai.core.roomgrid_level import RoomGridLevel
from minigrid.envs.babyai.core.verifier import GoToInstr, ObjDesc
from minigrid.utils.baby_ai_bot import BabyAIBot

COLOURS = ["red", "green", "blue", "purple"]


class GoToBall(RoomGridLevel):
    """One room with a ball of each colour; the mission names the context's."""

    def reset(self, *, seed=None, options=None):
        self.colour, self.taken = options["context"], None
        return super().reset(seed=seed)

    def gen_mission(self):
        self.place_agent()
        self.balls = [self.add_object(0, 0, "ball", colour)[0] for colour in COLOURS]
        self.check_objs_reachable()
        self.instrs = GoToInstr(ObjDesc("ball", self.colour))

    def step(self, action):
        self.taken = action
        return super().step(action)


class Places(gym.ObservationWrapper):
    """Adds where each ball is, seen from the agent: cells ahead and to the right."""

    def __init__(self, env):
        super().__init__(env)
        places = gym.spaces.Box(-10, 10, (2 * len(COLOURS),), np.float32)
        self.observation_space = gym.spaces.Dict({**env.observation_space.spaces, "places": places})

    def observation(self, observation):
        room = self.unwrapped
        away = np.array([np.subtract(ball.cur_pos if ball.cur_pos is not None else room.agent_pos, room.agent_pos) for ball in room.balls])
        ahead, right = away @ room.dir_vec, away @ room.right_vec
        return {**observation, "places": np.stack([ahead, right], -1).ravel().astype(np.float32)}


def make_level():
    return Places(GoToBall(num_rows=1, num_cols=1, room_size=7, max_steps=64))


def distance(observation, colour):
    k = COLOURS.index(colour)
    return abs(observation["places"][2 * k : 2 * k + 2]).sum()


def make_bot(env, colour):
    """The bot reads the level; told what the agent did, it plans anew."""
    bot = BabyAIBot(env)
    return lambda observation: int(bot.replan(env.unwrapped.taken))
